//! What Kubernetes takes for keys and values of labels and taints, and for images: checked here,
//! so that it is told to whoever wrote it and not to whoever runs it.

use std::sync::LazyLock;

use regex::Regex;

/// The key of a label or taint, as a pattern: a name, and before it the domain it belongs to.
pub(in crate::stage) const KEY: &str = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
/// The value of a label or taint; an empty one says nothing here.
pub(in crate::stage) const VALUE: &str = r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
/// The name of an image: registry, path, tag, digest.
pub(in crate::stage) const IMAGE: &str = r"^([A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*(:[0-9]{1,5})?/)?[a-z0-9]+((\.|__?|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|__?|-+)[a-z0-9]+)*)*(:[A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?(@sha256:[0-9a-f]{64})?$";
/// Characters of a key: 253 of the domain, a slash, 63 of the name.
pub(in crate::stage) const KEY_CHARS: usize = 317;
/// Characters of an image's name: 255 of registry and path, and what pins it.
pub(in crate::stage) const IMAGE_CHARS: usize = 455;

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is tested")
}

/// True when Kubernetes takes it as the key of a label or taint.
pub(crate) fn is_label_key(text: &str) -> bool {
    static IS: LazyLock<Regex> = LazyLock::new(|| pattern(KEY));
    let domain = text.split_once('/').map_or("", |(domain, _)| domain);
    domain.len() <= 253 && IS.is_match(text)
}

/// True when Kubernetes takes it as the value of a label or taint, and it is not empty.
pub(crate) fn is_label_value(text: &str) -> bool {
    static IS: LazyLock<Regex> = LazyLock::new(|| pattern(VALUE));
    IS.is_match(text)
}

/// True when it can be the name of an image.
pub(in crate::stage) fn is_image(text: &str) -> bool {
    static IS: LazyLock<Regex> = LazyLock::new(|| pattern(IMAGE));
    let name = text.split('@').next().unwrap_or_default();
    let path = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => path,
        Some(_) | None => name,
    };
    path.len() <= 255 && IS.is_match(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `validation.go` of Kubernetes and the grammar of image references have it.
    #[test]
    fn what_kubernetes_takes() {
        let long = |n| "a".repeat(n);
        for key in ["disk", "a", "A_b.C-1", "node.kubernetes.io/instance-type", "a/b", &long(63), "x.y/Tier"]
        {
            assert!(is_label_key(key), "{key}");
        }
        let long_domain = format!("{}/disk", vec![long(50); 5].join("."));
        assert_eq!(long_domain.len(), 254 + 5);
        for key in [
            "",
            "/",
            "a/",
            "/a",
            "-a",
            "a-",
            "a b",
            "a/b/c",
            "A.b/c",
            "a..b/c",
            "диск",
            "a\n",
            "a=b",
            ".",
            &long(64),
            &long_domain,
        ] {
            assert!(!is_label_key(key), "{key}");
        }
        for value in ["ssd", "1", "A_b.C-1", &long(63)] {
            assert!(is_label_value(value), "{value}");
        }
        for value in ["", "a b", "-a", "a.", "a/b", "x\n", &long(64)] {
            assert!(!is_label_value(value), "{value}");
        }
        let digest = format!("@sha256:{}", "0f".repeat(32));
        for image in [
            "alpine",
            "alpine:3.20",
            "localhost/agents:dev",
            "registry.example.com:5000/team/agents:1.2-rc.1",
            "Registry.example.com/a__b/c--d",
            &format!("ghcr.io/acme/agents:1{digest}"),
            &format!("agents{digest}"),
        ] {
            assert!(is_image(image), "{image}");
        }
        for image in [
            "",
            "Alpine",
            "alpine:",
            "alpine ",
            "https://ghcr.io/acme/agents",
            "ghcr.io//agents",
            "ghcr.io/acme/agents:-x",
            "a@sha256:0f",
            "a___b",
            "../agents",
            "a\n",
            &long(256),
        ] {
            assert!(!is_image(image), "{image}");
        }
    }
}
