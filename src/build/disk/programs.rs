//! The toolchain's programs, run in the sandbox over one scratch directory; the disk stands in its `/out`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::build::BuildError;
use crate::build::sandbox::{self, Exit, Spec, Stop};

/// A toolchain and a place to run its programs in.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The toolchain's tree.
    pub tree: PathBuf,
    /// labimg itself, which makes the sandbox.
    pub helper: PathBuf,
    /// The scratch directory.
    pub scratch: PathBuf,
    /// The lock's epoch, seconds since 1970.
    pub epoch: u64,
    /// Threads programs may use.
    pub threads: usize,
}

impl Programs {
    /// The file that `/out/<name>` is.
    pub fn out(&self, name: &str) -> PathBuf {
        self.scratch.join("out").join(name)
    }

    /// Runs a script of bash with these files and directories in `/in`. `what` is the command as messages name it.
    ///
    /// # Errors
    /// A sandbox that can not be made, and a script that ends badly.
    pub fn run(&self, what: &str, script: &str, inputs: &[(&str, &Path)], args: &[String]) -> Result<(), BuildError> {
        match self.try_run(script, inputs, args)? {
            (Exit::Code(0), _) => Ok(()),
            (exit, output) => {
                Err(BuildError::Program { command: format!("`{what}`"), ended: exit.to_string(), output })
            }
        }
    }

    /// Runs a script to its end, whatever that is: how it ended, and the end of what it said. `args` are `$1` and so on.
    ///
    /// # Errors
    /// A sandbox that can not be made.
    pub fn try_run(
        &self,
        script: &str,
        inputs: &[(&str, &Path)],
        args: &[String],
    ) -> Result<(Exit, String), BuildError> {
        let mut argv = ["/bin/bash", "-euo", "pipefail", "-c", script, "labimg"].map(str::to_owned).to_vec();
        argv.extend_from_slice(args);
        let spec = Spec {
            tree: self.tree.clone(),
            inputs: inputs.iter().map(|(name, path)| ((*name).to_owned(), (*path).to_owned())).collect(),
            scratch: self.scratch.clone(),
            argv,
            env: BTreeMap::from([("MTOOLS_SKIP_CHECK".to_owned(), "1".to_owned())]),
            epoch: self.epoch,
            ids: crate::build::sandbox::Ids::One,
            vm: false,
            cores: self.threads,
        };
        let ended = sandbox::run(&self.helper, &spec, Stop::default())?;
        Ok((ended.exit, ended.output))
    }

    /// Writes a small file for `/in` and gives its path.
    ///
    /// # Errors
    /// I/O errors.
    pub fn input(&self, name: &str, content: &[u8]) -> Result<PathBuf, BuildError> {
        let dir = self.scratch.join("in");
        fs_err::create_dir_all(&dir).map_err(|e| BuildError::io(&dir, "create", e))?;
        let path = dir.join(name);
        fs_err::write(&path, content).map_err(|e| BuildError::io(&path, "write", e))?;
        Ok(path)
    }
}
