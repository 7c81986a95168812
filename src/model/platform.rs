//! Operating system and architecture, named as OCI and Go name them (image-spec, "Image Index", `platform`).

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A platform labimg handles. Images and hosts are Linux; tools also come for the machines attendees sit at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Platform {
    /// `darwin/amd64` (tools only).
    DarwinAmd64,
    /// `darwin/arm64` (tools only).
    DarwinArm64,
    /// `linux/amd64`.
    LinuxAmd64,
    /// `linux/arm64`.
    LinuxArm64,
    /// `windows/amd64` (tools only).
    WindowsAmd64,
}

/// A text that names no platform labimg handles.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a platform labimg handles (want linux/amd64 or linux/arm64; for tools also darwin/amd64, darwin/arm64, windows/amd64)"
)]
pub struct PlatformError(pub String);

impl Platform {
    /// Every platform, sorted by name.
    pub const ALL: [Self; 5] =
        [Self::DarwinAmd64, Self::DarwinArm64, Self::LinuxAmd64, Self::LinuxArm64, Self::WindowsAmd64];

    /// The operating system as Go names it.
    pub fn os(self) -> &'static str {
        match self {
            Self::DarwinAmd64 | Self::DarwinArm64 => "darwin",
            Self::LinuxAmd64 | Self::LinuxArm64 => "linux",
            Self::WindowsAmd64 => "windows",
        }
    }

    /// The architecture as Go names it.
    pub fn arch(self) -> &'static str {
        match self {
            Self::DarwinAmd64 | Self::LinuxAmd64 | Self::WindowsAmd64 => "amd64",
            Self::DarwinArm64 | Self::LinuxArm64 => "arm64",
        }
    }

    /// Whether images, nodes and hosts can be of this platform.
    pub fn runs_containers(self) -> bool {
        self.os() == "linux"
    }

    /// The platform this very program was built for, where labimg handles it.
    pub fn here() -> Option<Self> {
        let os = if cfg!(target_os = "macos") { "darwin" } else { std::env::consts::OS };
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        format!("{os}/{arch}").parse().ok()
    }

    /// Whether an OCI descriptor of this `os`, `architecture` and `variant` is for this platform.
    pub fn matches(self, os: &str, arch: &str, variant: Option<&str>) -> bool {
        let plain = match self.arch() {
            "arm64" => matches!(variant, None | Some("" | "v8")),
            _ => matches!(variant, None | Some("" | "v1")),
        };
        os == self.os() && arch == self.arch() && plain
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os(), self.arch())
    }
}

impl FromStr for Platform {
    type Err = PlatformError;
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        Self::ALL.into_iter().find(|p| p.to_string() == text).ok_or_else(|| PlatformError(text.to_owned()))
    }
}

impl Serialize for Platform {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Platform {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Platform {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Platform".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let names: Vec<String> = Self::ALL.iter().map(ToString::to_string).collect();
        schemars::json_schema!({ "type": "string", "enum": names })
    }
}
