//! Whether KVM really runs a guest here: one is run. A device that is there proves nothing (nested, in containers).

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::build::BuildError;
use crate::build::sandbox::{self, Exit, Ids, Spec, Stop};

/// How instructions are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accel {
    /// By the processor.
    Kvm,
    /// By translation: ten times slower.
    Tcg,
}

/// How long the guest may take: with KVM it is there in less than a second.
const PATIENCE: Duration = Duration::from_secs(15);
/// What QEMU ends with when the guest wrote 16 to the debug port: twice that, plus one (hw/misc/debugexit.c).
const RAN: Exit = Exit::Code(33);

impl Accel {
    /// As `-accel` takes it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg,thread=multi",
        }
    }

    /// Finds out; `dir` is an empty directory, `programs` the toolchain's tree, `helper` labimg itself.
    ///
    /// # Errors
    /// A directory that can not be written to.
    pub(super) fn probe(helper: &Path, programs: &Path, dir: PathBuf) -> Result<Self, BuildError> {
        let device = fs_err::OpenOptions::new().read(true).write(true).open("/dev/kvm");
        if device.is_err() {
            return Ok(Self::Tcg);
        }
        fs_err::create_dir_all(&dir).map_err(|e| BuildError::io(&dir, "create", e))?;
        let boot = dir.join("boot");
        fs_err::write(&boot, boot_sector()).map_err(|e| BuildError::io(&boot, "write", e))?;
        let line = "qemu-system-x86_64 -accel kvm -machine pc -m 16 -nodefaults -no-user-config -display none -no-reboot \
                    -device isa-debug-exit,iobase=0xf4,iosize=4 -drive file=/in/boot,format=raw,if=ide,snapshot=on";
        let spec = Spec {
            tree: programs.to_owned(),
            inputs: [("boot".to_owned(), boot)].into(),
            scratch: dir,
            argv: line.split_whitespace().map(str::to_owned).collect(),
            env: [("TMPDIR".to_owned(), "/tmp".to_owned())].into(),
            epoch: 0,
            cores: 1,
            ids: Ids::One,
            vm: true,
        };
        let stop = Stop { timeout: Some(PATIENCE), ..Stop::default() };
        // Whatever goes wrong, translation is still there.
        let ran = sandbox::run(helper, &spec, stop).is_ok_and(|ended| ended.exit == RAN);
        Ok(if ran { Self::Kvm } else { Self::Tcg })
    }
}

/// `mov al, 16; out 0xf4, al; hlt`, and the mark of a disk that boots.
fn boot_sector() -> Vec<u8> {
    let mut sector = vec![0xb0, 16, 0xe6, 0xf4, 0xf4];
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    sector
}
