//! Names of wheels: what a file name says, and whether a wheel fits a Python and a platform.
//!
//! Formats: "Binary distribution format" (PyPA specifications: file name convention), "Platform compatibility tags"
//! (PEP 425, PEP 600 for `manylinux`), "Names and normalization" (PEP 503).

use super::platform::Platform;

/// The newest glibc that wheels may ask for: that of Debian 12 (bookworm), the oldest Debian whose Python labimg locks
/// wheels for. Newer Debians run those wheels, too.
const GLIBC_MINOR: u32 = 36;

/// Legacy names of `manylinux` tags (PEP 513, 571, 599) and the glibc minor version they stand for.
const LEGACY: [(&str, u32); 3] = [("manylinux2014", 17), ("manylinux2010", 12), ("manylinux1", 5)];

/// What a wheel's file name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WheelName {
    /// The distribution as it is written there: `opentelemetry_sdk`.
    pub distribution: String,
    /// Its version as it is written there.
    pub version: String,
    /// The tag: Pythons, ABIs and platforms, each of which may be several.
    pub tag: WheelTag,
}

/// A compressed tag: the wheel is for every combination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WheelTag {
    /// `py3`, `cp311`.
    pub pythons: Vec<String>,
    /// `none`, `abi3`, `cp311`.
    pub abis: Vec<String>,
    /// `any`, `manylinux_2_17_x86_64`.
    pub platforms: Vec<String>,
}

/// A file name that is no wheel's, or a Python version labimg does not understand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {what}: {why}")]
pub struct WheelNameError {
    /// The text.
    pub text: String,
    /// What it should be.
    pub what: &'static str,
    /// What is wrong with it.
    pub why: &'static str,
}

impl WheelName {
    /// Reads `{distribution}-{version}(-{build})?-{python}-{abi}-{platform}.whl`.
    ///
    /// # Errors
    /// Other shapes, empty parts, and characters that have no place in a file name.
    pub fn parse(file: &str) -> Result<Self, WheelNameError> {
        let wrong = |why| WheelNameError { text: file.to_owned(), what: "wheel's file name", why };
        let stem = file.strip_suffix(".whl").ok_or_else(|| wrong("it does not end in `.whl`"))?;
        if !stem.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+!".contains(c)) {
            return Err(wrong("it may hold letters, digits and `-_.+!` only"));
        }
        let parts: Vec<&str> = stem.split('-').collect();
        let (distribution, version, tag) = match *parts.as_slice() {
            [name, version, py, abi, platform] => (name, version, [py, abi, platform]),
            [name, version, build, py, abi, platform] if build.starts_with(|c: char| c.is_ascii_digit()) => {
                (name, version, [py, abi, platform])
            }
            _ => return Err(wrong("want `name-version-python-abi-platform.whl`")),
        };
        if [distribution, version].iter().any(|part| part.is_empty() || part.starts_with('.')) {
            return Err(wrong("its name or version is empty"));
        }
        let [pythons, abis, platforms] =
            tag.map(|part| part.split('.').map(str::to_ascii_lowercase).collect::<Vec<_>>());
        let tag = WheelTag { pythons, abis, platforms };
        Ok(Self { distribution: distribution.to_owned(), version: version.to_owned(), tag })
    }

    /// The project it is of, normalised.
    pub fn project(&self) -> String {
        normalized(&self.distribution)
    }
}

impl WheelTag {
    /// Whether CPython `python` on `platform` can use the wheel.
    pub fn fits(&self, python: PythonVersion, platform: Platform) -> bool {
        let pythons = self.pythons.iter().any(|p| {
            self.abis.iter().any(|abi| match abi.as_str() {
                "none" => python.runs(p),
                "abi3" => cpython_minor(p).is_some_and(|minor| minor <= python.minor),
                abi => abi == python.tag() && *p == python.tag(),
            })
        });
        pythons && self.platforms.iter().any(|tag| tag == "any" || runs_on(tag, platform))
    }

    /// As it is written: `py3-none-any`.
    pub fn text(&self) -> String {
        [&self.pythons, &self.abis, &self.platforms].map(|part| part.join(".")).join("-")
    }
}

/// A minor version of Python 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PythonVersion {
    /// The number after `3.`.
    pub minor: u32,
}

impl PythonVersion {
    /// Reads `3.11`.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, WheelNameError> {
        let digits = text.strip_prefix("3.").filter(|d| d.len() < 4 && d.bytes().all(|b| b.is_ascii_digit()));
        let minor = digits.and_then(|d| d.parse().ok());
        let wrong = || WheelNameError { text: text.to_owned(), what: "version of Python", why: "want it as `3.11`" };
        minor.map(|minor| Self { minor }).ok_or_else(wrong)
    }

    /// `cp311`.
    pub fn tag(self) -> String {
        format!("cp3{}", self.minor)
    }

    /// Whether wheels without an ABI for `tag` are for it: `py3`, `py3N` of it or an older one, and its own `cp3N`.
    fn runs(self, tag: &str) -> bool {
        let pure =
            tag.strip_prefix("py3").map(|rest| rest.is_empty() || rest.parse().is_ok_and(|n: u32| n <= self.minor));
        pure.unwrap_or_else(|| tag == self.tag())
    }
}

impl std::fmt::Display for PythonVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "3.{}", self.minor)
    }
}

fn cpython_minor(tag: &str) -> Option<u32> {
    tag.strip_prefix("cp3")?.parse().ok()
}

/// The architecture as Python and the kernel name it; `None` where wheels of Linux do not run.
pub fn machine(platform: Platform) -> Option<&'static str> {
    match platform {
        Platform::LinuxAmd64 => Some("x86_64"),
        Platform::LinuxArm64 => Some("aarch64"),
        _ => None,
    }
}

/// Platform tags that fit `platform`, the best first: `manylinux_2_36_x86_64` down to `manylinux_2_5_x86_64` (aarch64:
/// `2_17`, where the architecture came in) with their legacy names, then `linux_x86_64`.
pub fn platform_tags(platform: Platform) -> Vec<String> {
    let Some(machine) = machine(platform) else { return Vec::new() };
    let oldest = oldest_glibc(platform);
    let mut tags = Vec::new();
    for minor in (oldest..=GLIBC_MINOR).rev() {
        tags.push(format!("manylinux_2_{minor}_{machine}"));
        tags.extend(LEGACY.iter().filter(|(_, m)| *m == minor).map(|(name, _)| format!("{name}_{machine}")));
    }
    tags.push(format!("linux_{machine}"));
    tags
}

fn oldest_glibc(platform: Platform) -> u32 {
    if platform == Platform::LinuxArm64 { 17 } else { 5 }
}

fn runs_on(tag: &str, platform: Platform) -> bool {
    platform_tags(platform).iter().any(|known| known == tag)
}

/// A project's name as indexes know it (PEP 503): lower case, runs of `-`, `_` and `.` made one `-`.
pub fn normalized(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '-' | '_' | '.' if out.ends_with('-') => {}
            '-' | '_' | '.' => out.push('-'),
            c => out.push(c.to_ascii_lowercase()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const PYTHON: PythonVersion = PythonVersion { minor: 11 };

    fn fits(file: &str, platform: Platform) -> bool {
        WheelName::parse(file).unwrap().tag.fits(PYTHON, platform)
    }

    #[test]
    fn file_names_are_read() {
        let name = WheelName::parse("Foo_Bar.baz-1.0+x-3build-py2.py3-none-any.whl").unwrap();
        assert_eq!((name.project().as_str(), name.version.as_str()), ("foo-bar-baz", "1.0+x"));
        assert_eq!(name.tag.text(), "py2.py3-none-any");
        for file in [
            "a-1.tar.gz",
            "a-1-py3-none.whl",
            "a-1-b-py3-none-any.whl",
            "-1-py3-none-any.whl",
            "../a-1-py3-none-any.whl",
            "a b-1-py3-none-any.whl",
            "a-1-1-1-py3-none-any.whl",
        ] {
            assert!(WheelName::parse(file).is_err(), "{file}");
        }
    }

    #[test]
    fn wheels_fit_their_python_and_platform() {
        let (amd, arm) = (Platform::LinuxAmd64, Platform::LinuxArm64);
        for (file, on_amd, on_arm) in [
            ("a-1-py3-none-any.whl", true, true),
            ("a-1-py2.py3-none-any.whl", true, true),
            ("a-1-py2-none-any.whl", false, false),
            ("a-1-py312-none-any.whl", false, false),
            ("a-1-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", true, false),
            ("a-1-cp311-cp311-manylinux_2_28_aarch64.whl", false, true),
            ("a-1-cp312-cp312-manylinux_2_28_aarch64.whl", false, false),
            ("a-1-cp38-abi3-manylinux1_x86_64.whl", true, false),
            ("a-1-cp312-abi3-manylinux1_x86_64.whl", false, false),
            ("a-1-cp311-cp311-manylinux_2_39_x86_64.whl", false, false),
            ("a-1-cp311-cp311-musllinux_1_2_x86_64.whl", false, false),
            ("a-1-cp311-cp311-win_amd64.whl", false, false),
            ("a-1-py3-none-macosx_11_0_arm64.whl", false, false),
            ("a-1-pp311-pypy311_pp73-manylinux_2_28_x86_64.whl", false, false),
            ("a-1-cp311-cp311-linux_x86_64.whl", true, false),
        ] {
            assert_eq!((fits(file, amd), fits(file, arm)), (on_amd, on_arm), "{file}");
        }
        assert!(!fits("a-1-cp311-cp311-linux_x86_64.whl", Platform::DarwinArm64));
    }

    #[test]
    fn platform_tags_end_where_an_architecture_began() {
        let tags = platform_tags(Platform::LinuxAmd64);
        assert_eq!(tags.first().unwrap(), "manylinux_2_36_x86_64");
        assert!(tags.contains(&"manylinux1_x86_64".to_owned()) && tags.contains(&"manylinux2014_x86_64".to_owned()));
        let tags = platform_tags(Platform::LinuxArm64);
        assert!(!tags.contains(&"manylinux1_aarch64".to_owned()) && tags.contains(&"manylinux2014_aarch64".to_owned()));
        assert!(platform_tags(Platform::WindowsAmd64).is_empty());
    }

    #[test]
    fn python_versions() {
        assert_eq!(PythonVersion::parse("3.11").unwrap(), PYTHON);
        for text in ["3", "3.", "2.7", "3.11.2", "3.x", "3.1111"] {
            assert!(PythonVersion::parse(text).is_err(), "{text}");
        }
    }
}
