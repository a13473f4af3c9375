//! The tree of files in; a package of Debian made of it out, by debhelper.
//!
//! debhelper writes the scripts that make the user and start, restart and stop the unit, as its versions of the day
//! do it: nothing is started where systemd does not run.

use crate::dist::DOC;
use crate::dist::VERSION;
use crate::dist::binary::Arch;
use crate::dist::date;
use crate::step::run;
use anyhow::Context as _;
use anyhow::Result;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// Debian's revision of this version.
const REVISION: u32 = 1;

/// The files of a source package, but for the log of changes.
const SOURCE: [(&str, &str); 4] = [
    ("control", include_str!("debian/control")),
    ("copyright", include_str!("debian/copyright")),
    ("rules", include_str!("debian/rules")),
    ("tachograph.lintian-overrides", include_str!("debian/lintian-overrides")),
];

/// What lies elsewhere in Debian, or is installed by a tool of debhelper's.
const MOVED: [(&str, &str); 3] = [
    ("usr/lib/systemd/system/tachograph.service", "debian/tachograph.service"),
    ("usr/lib/sysusers.d/tachograph.conf", "debian/tachograph.sysusers"),
    ("usr/share/zsh/site-functions/_tachograph", "tree/usr/share/zsh/vendor-completions/_tachograph"),
];

/// Builds it in the folder `work`; it is put two above.
pub(super) fn build(tree: &Path, work: &Path, arch: Arch, epoch: u64) -> Result<()> {
    let (copy, debian) = (work.join("tree"), work.join("debian"));
    fs::create_dir_all(&debian).with_context(|| debian.display().to_string())?;
    run(Command::new("cp").arg("--archive").arg(tree).arg(&copy))?;
    for (from, to) in MOVED {
        let to = work.join(to);
        fs::create_dir_all(to.parent().context("no folder")?)?;
        fs::rename(copy.join(from), &to).with_context(|| to.display().to_string())?;
    }
    for folder in ["usr/lib", "usr/share/zsh/site-functions"] {
        fs::remove_dir_all(copy.join(folder)).with_context(|| folder.to_owned())?;
    }
    // Debian wants it as `copyright`, which is among the files of the source package.
    fs::remove_file(copy.join(DOC).join("LICENSE"))?;
    for (name, text) in SOURCE {
        fs::write(debian.join(name), text).with_context(|| name.to_owned())?;
    }
    fs::set_permissions(debian.join("rules"), fs::Permissions::from_mode(0o755))?;
    let change = format!(
        "tachograph ({VERSION}-{REVISION}) unstable; urgency=medium\n\n  * This version.\n\n -- {}  {}\n",
        maintainer().context("no maintainer in control")?,
        date("+%a, %d %b %Y %T +0000", epoch)?
    );
    fs::write(debian.join("changelog"), change)?;
    let mut rules = Command::new("debian/rules");
    rules.current_dir(work).arg("binary").env("DEB_HOST_ARCH", arch.debian);
    run(rules.env("SOURCE_DATE_EPOCH", epoch.to_string()))
}

fn maintainer() -> Option<&'static str> {
    include_str!("debian/control").lines().find_map(|line| line.strip_prefix("Maintainer: "))
}
