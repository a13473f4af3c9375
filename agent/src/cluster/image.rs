//! A reference to an image in; its name, tag and digest out.

use serde::Serialize;

/// What a container was started from, by the names that the conventions of OpenTelemetry use.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Image {
    /// Registry and repository, as the pod names them.
    pub name: Option<String>,
    /// The tag that the pod names.
    pub tag: Option<String>,
    /// Repository and digest, as the runtime pulled it.
    pub digest: Option<String>,
}

impl Image {
    /// From what the pod asks for, and from what the runtime says that it pulled (`imageID` of its status).
    pub fn of(asked: &str, pulled: &str) -> Self {
        let pulled = pulled.split_once("://").map_or(pulled, |(_scheme, rest)| rest);
        let (reference, digest) = asked.split_once('@').map_or((asked, None), |(name, digest)| (name, Some(digest)));
        // A colon before the last slash is that of a port.
        let at = reference.rfind(':').filter(|at| reference.rfind('/').is_none_or(|slash| slash < *at));
        let (name, tag) =
            at.map_or((reference, None), |at| (reference.get(..at).unwrap_or_default(), reference.get(at + 1..)));
        // Some runtimes give the id of the image for its name, which says neither repository nor tag.
        let is_id = matches!(name, "sha256" | "sha512") || reference.is_empty();
        let text = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        let known = pulled.contains('@').then(|| pulled.to_owned());
        Self {
            name: text(Some(name)).filter(|_| !is_id),
            tag: text(tag).filter(|_| !is_id),
            digest: known.or_else(|| digest.map(|digest| format!("{name}@{digest}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_in_every_form() {
        for (asked, pulled, expected) in [
            ("vllm/vllm-openai:v0.32.0", "", ["vllm/vllm-openai", "v0.32.0", "-"]),
            ("vllm/vllm-openai", "", ["vllm/vllm-openai", "-", "-"]),
            ("registry:5000/team/vllm", "", ["registry:5000/team/vllm", "-", "-"]),
            ("registry:5000/team/vllm:1", "", ["registry:5000/team/vllm", "1", "-"]),
            ("busybox", "docker.io/library/busybox@sha256:ab", ["busybox", "-", "docker.io/library/busybox@sha256:ab"]),
            ("a/b:1@sha256:ab", "sha256:cd", ["a/b", "1", "a/b@sha256:ab"]),
            ("a/b@sha256:ab", "docker-pullable://a/b@sha256:cd", ["a/b", "-", "a/b@sha256:cd"]),
            ("sha256:ab", "sha256:ab", ["-", "-", "-"]),
            ("", "", ["-", "-", "-"]),
        ] {
            let Image { name, tag, digest } = Image::of(asked, pulled);
            let told = [&name, &tag, &digest].map(|it| it.as_deref().unwrap_or("-"));
            assert_eq!(told, expected, "{asked} {pulled}");
        }
    }
}
