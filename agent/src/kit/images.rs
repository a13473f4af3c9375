//! The one list of the stack's programs: what runs in which version, to mirror where no registry can be reached.

/// One image.
#[derive(Debug)]
pub struct Image {
    /// What it is called in the compose file.
    pub service: &'static str,
    /// Where it comes from.
    pub repository: &'static str,
    /// Which version.
    pub tag: &'static str,
}

impl Image {
    /// As an engine pulls it.
    pub fn reference(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }
}

/// All of them. A mirror may add digests; a registry tells them, nobody writes them.
pub const IMAGES: [Image; 6] = [
    Image { service: "prometheus", repository: "docker.io/prom/prometheus", tag: "v3.5.3" },
    Image { service: "alertmanager", repository: "docker.io/prom/alertmanager", tag: "v0.33.1" },
    Image { service: "otel-collector", repository: "docker.io/otel/opentelemetry-collector-contrib", tag: "0.153.0" },
    Image { service: "loki", repository: "docker.io/grafana/loki", tag: "3.7.6" },
    Image { service: "tempo", repository: "docker.io/grafana/tempo", tag: "3.0.3" },
    Image { service: "grafana", repository: "docker.io/grafana/grafana", tag: "13.1.2" },
];

/// That of a service.
pub fn image(service: &str) -> Option<String> {
    IMAGES.iter().find(|image| image.service == service).map(Image::reference)
}

/// One a line, for a script that mirrors them.
pub fn list() -> String {
    IMAGES.iter().map(|image| image.reference() + "\n").collect()
}
