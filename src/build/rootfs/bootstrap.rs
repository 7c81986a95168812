//! Locked packages installed with their own scripts, by the toolchain's `mmdebstrap`, and normalised.
//!
//! The sandbox has no network, its clock's only trace is `SOURCE_DATE_EPOCH`, and ids 0 to 65535 exist in it; whoever starts it,
//! the installation sees the same. `mmdebstrap --mode=root` finds that it can make no devices there and binds those of
//! the sandbox. The tree it packs is read where it lies, never unpacked on this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::{PROGRAMS, TREE, normalise, read_tree, repository, status, write_tree};
use crate::build::BuildError;
use crate::build::sandbox::{self, Exit, Ids, Spec, Stop};
use crate::build::step::{Action, Cost, Input, Outputs, Run};
use crate::build::toolchain::Toolchain;
use crate::model::lock::LockedPackage;
use crate::model::platform::Platform;

/// Moves whenever the same packages could give another tree: the script, the normalisation, the archive's form.
const BUILDER: &str = "rootfs-bootstrap/1";
/// What runs in the sandbox: architecture and names are its arguments. Packages that must be there first (essential ones) are
/// found by their field; all others are one transaction, with the initramfs made once, at its end.
const SCRIPT: &str = r#"
trap 'rm -rf /tmp/mmdebstrap.*' EXIT
cd /
mmdebstrap --mode=root --variant=essential --format=tar --architectures="$1" --include="$2" \
  --aptopt='APT::Sandbox::User "root"' --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
  --dpkgopt=force-unsafe-io --skip=output/dev --essential-hook='
    cd /in/early; find . -type f | while read -r f; do install -D -m 0644 "$f" "$1/$f"; done' \
  '' /out/root.tar 'deb [trusted=yes] copy:///in/repo ./'
"#;
/// Where the script leaves the tree, below `/out`.
const TAR: &str = "root.tar";
/// Drivers in every initramfs: disks and networks of QEMU, of VirtualBox's IDE and SATA controllers, and the root file system.
/// Those a kernel does not have are passed over.
const MODULES: [&str; 11] = [
    "ahci",
    "ata_piix",
    "crc32c_generic",
    "ext4",
    "sd_mod",
    "virtio_blk",
    "virtio_mmio",
    "virtio_net",
    "virtio_pci",
    "virtio_scsi",
    "virtio_rng",
];
/// Lines after dpkg's error that say why: one.
const REASON: usize = 1;
/// Memory it takes, in MiB: apt, dpkg, and the kernel's own for the files it writes.
const MEMORY: u64 = 512;

/// Installs packages.
pub struct Bootstrap {
    /// Its name in the plan: `box web packages`.
    pub name: String,
    /// Debian's name of the architecture: `amd64`.
    pub architecture: String,
    /// Exactly what shall be installed, essential packages included.
    pub packages: Vec<LockedPackage>,
    /// Drivers in the initramfs beside the usual ones.
    pub modules: Vec<String>,
    /// The programs: [`PROGRAMS`] among them.
    pub toolchain: Arc<Toolchain>,
    /// labimg itself, which makes the sandbox.
    pub helper: PathBuf,
}

impl Action for Bootstrap {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn builder(&self) -> &'static str {
        BUILDER
    }

    fn params(&self) -> serde_json::Value {
        json!({"architecture": self.architecture, "modules": self.modules, "toolchain": self.toolchain.key()})
    }

    fn inputs(&self) -> BTreeMap<String, Input> {
        let input = |p: &LockedPackage| Input::Blob { digest: p.digest, size: p.size };
        self.packages.iter().map(|p| (format!("package {}", p.label()), input(p))).collect()
    }

    fn cost(&self) -> Cost {
        Cost { cores: 1, memory: MEMORY }
    }

    fn run(&self, run: &Run<'_>) -> Result<Outputs, BuildError> {
        self.check_architecture(Platform::here())?;
        let toolchain = self.toolchain.tree(run.store, run.reporter)?;
        self.check_programs(&toolchain)?;
        let spec = Spec {
            tree: toolchain,
            inputs: self.place(run)?,
            scratch: run.scratch.to_owned(),
            argv: self.argv(),
            env: BTreeMap::from([("DEBIAN_FRONTEND".to_owned(), "noninteractive".to_owned())]),
            epoch: run.epoch,
            cores: 1,
            ids: Ids::Range,
            vm: false,
        };
        let ended = sandbox::run(&self.helper, &spec, Stop::default())?;
        if ended.exit != Exit::Code(0) {
            return Err(self.failed(&ended.exit, ended.output));
        }
        let tar = spec.out().join(TAR);
        let mut tree = read_tree(&tar, &self.name)?;
        status::check(&tree, &self.packages)?;
        normalise::normalise(&mut tree, run.epoch)?;
        let output = write_tree(&tree, run.epoch, run.store)?;
        drop(tree);
        // It is large, and the store has it now.
        fs_err::remove_file(&tar).map_err(|e| BuildError::io(&tar, "remove", e))?;
        Ok(Outputs::from([(TREE.to_owned(), output)]))
    }
}

impl Bootstrap {
    /// Packages bring programs that are run while they are installed.
    fn check_architecture(&self, here: Option<Platform>) -> Result<(), BuildError> {
        let here = here.map_or("another", |p| p.arch());
        if here == self.architecture {
            return Ok(());
        }
        let want = &self.architecture;
        Err(BuildError::user(
            format!("{}: installing {want} packages runs their programs, and this machine is {here}", self.name),
            format!("build this box on an {want} machine"),
        ))
    }

    fn check_programs(&self, tree: &Path) -> Result<(), BuildError> {
        if tree.join("usr/bin/mmdebstrap").is_file() {
            return Ok(());
        }
        Err(BuildError::user(
            format!("{}: the toolchain has no mmdebstrap", self.name),
            format!("let [toolchain] packages have: {}", PROGRAMS.join(", ")),
        ))
    }

    fn argv(&self) -> Vec<String> {
        let mut names: Vec<&str> = self.packages.iter().map(|p| p.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let names = names.join(",");
        ["/bin/sh", "-eu", "-c", SCRIPT, "bootstrap", &self.architecture, &names].map(str::to_owned).into()
    }

    /// The repository, and the files that must be there before the first package asks for them.
    fn place(&self, run: &Run<'_>) -> Result<BTreeMap<String, PathBuf>, BuildError> {
        let (repo, early) = (run.scratch.join("in/repo"), run.scratch.join("in/early"));
        fs_err::create_dir_all(&repo).map_err(|e| BuildError::io(&repo, "create", e))?;
        repository::write(run.store, &self.packages, &repo)?;
        let mut modules: Vec<&str> = MODULES.iter().copied().chain(self.modules.iter().map(String::as_str)).collect();
        modules.sort_unstable();
        modules.dedup();
        for (path, text) in [
            ("etc/initramfs-tools/conf.d/labimg", "MODULES=list\nCOMPRESS=zstd\nRESUME=none\n".to_owned()),
            ("usr/share/initramfs-tools/modules.d/labimg", modules.join("\n") + "\n"),
        ] {
            let path = early.join(path);
            let dir = crate::base::atomic::parent(&path);
            fs_err::create_dir_all(dir).map_err(|e| BuildError::io(dir, "create", e))?;
            fs_err::write(&path, text).map_err(|e| BuildError::io(&path, "write", e))?;
            repository::readable(&path)?;
        }
        Ok(BTreeMap::from([("repo".to_owned(), repo), ("early".to_owned(), early)]))
    }

    /// Whose script it was, where dpkg said so; what was said is shown.
    fn failed(&self, exit: &Exit, output: String) -> BuildError {
        let culprit = broken_package(&output);
        let command = match culprit {
            Some(name) => format!("installing package {name} (its scripts run in a sandbox without a network)"),
            None => "mmdebstrap".to_owned(),
        };
        let output = told(&output, culprit);
        BuildError::Program { command, ended: exit.to_string(), output }
    }
}

/// The first package dpkg could not install: `dpkg: error processing package NAME (--configure):`.
fn broken_package(output: &str) -> Option<&str> {
    let said = |l: &'_ str| l.contains("dpkg: error processing ");
    let line = output.lines().find(|l| said(l))?;
    let rest = line.split("dpkg: error processing ").nth(1)?;
    let rest = rest.strip_prefix("package ").or_else(|| rest.strip_prefix("archive ")).unwrap_or(rest);
    rest.split(' ').next()
}

/// What the package that broke said: from where dpkg turned to it to where dpkg gave it up. All of it where that is not found;
/// the log has all of it in any case.
fn told(output: &str, culprit: Option<&str>) -> String {
    let lines: Vec<&str> = output.lines().collect();
    let error = lines.iter().position(|l| l.contains("dpkg: error processing "));
    let (Some(name), Some(error)) = (culprit, error) else { return output.to_owned() };
    let before = lines.get(..error).unwrap_or_default();
    let turned = |l: &&str| l.starts_with("Setting up ") || l.starts_with("Preparing to unpack ");
    let bare = name.split(':').next().unwrap_or(name);
    let start = before.iter().rposition(|l| turned(l) && l.contains(bare)).unwrap_or(0);
    let own = lines.get(start..lines.len().min(error + 1 + REASON)).unwrap_or_default();
    own.iter().map(|l| format!("{l}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bootstrap(architecture: &str) -> Bootstrap {
        Bootstrap {
            name: "box web packages".to_owned(),
            architecture: architecture.to_owned(),
            packages: Vec::new(),
            modules: Vec::new(),
            toolchain: Arc::new(Toolchain::new(&[], |_, _| Ok(()))),
            helper: PathBuf::from("labimg"),
        }
    }

    #[test]
    fn the_package_that_broke_is_named() {
        let said = "Setting up libx (1) ...\nfine\nSetting up web (1) ...\nno such luck\ndpkg: error processing package web (--configure):\n installed web \
                    package post-installation script subprocess returned error exit status 7\nSetting up liby (1) ...\nErrors were encountered while \
                    processing:\n web\nE: env failed to run\n";
        let error = bootstrap("amd64").failed(&Exit::Code(25), said.to_owned()).to_string();
        assert!(error.starts_with("installing package web (") && error.contains("no such luck"), "{error}");
        assert!(!error.contains("E: env") && !error.contains("lib"), "{error}");
        assert!(error.ends_with("exit status 7"), "{error}");
        assert!(bootstrap("amd64").failed(&Exit::Code(2), "E: x".into()).to_string().starts_with("mmdebstrap: "));
    }

    #[test]
    fn another_architecture_and_another_toolchain_say_what_to_do() {
        let here = "linux/amd64".parse().ok();
        bootstrap("amd64").check_architecture(here).unwrap();
        let error = bootstrap("arm64").check_architecture(here).unwrap_err();
        assert_eq!(error.hint().unwrap(), "build this box on an arm64 machine");
        let error = bootstrap("amd64").check_programs(Path::new("/nonexistent")).unwrap_err();
        assert!(error.hint().unwrap().contains("mmdebstrap"));
    }
}
