//! The linked crates in; a bill of materials as CycloneDX 1.5 writes it out.

use crate::dist::VERSION;
use crate::dist::crates::Crate;
use serde_json::Value;
use serde_json::json;

/// Its file.
pub(super) const NAME: &str = "tachograph.cdx.json";

const OWN: &str = "pkg:generic/tachograph";

/// The bill, of this time.
pub(super) fn write(linked: &[Crate], timestamp: &str) -> String {
    let own = format!("{OWN}@{VERSION}");
    let components: Vec<Value> = linked.iter().map(component).collect();
    let parts: Vec<String> = linked.iter().map(address).collect();
    let bill = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": timestamp,
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": "tachograph",
                "version": VERSION,
                "purl": own,
                "licenses": [{ "expression": "MIT OR Apache-2.0" }],
            },
        },
        "components": components,
        "dependencies": [{ "ref": own, "dependsOn": parts }],
    });
    format!("{bill:#}\n")
}

fn address(one: &Crate) -> String {
    format!("pkg:cargo/{}@{}", one.name, one.version)
}

fn component(one: &Crate) -> Value {
    json!({
        "type": "library",
        "bom-ref": address(one),
        "name": one.name,
        "version": one.version,
        "purl": address(one),
        "licenses": [{ "expression": one.licence }],
        "hashes": [{ "alg": "SHA-256", "content": one.checksum }],
    })
}
