//! A command in a running container.

use bollard::exec::{CreateExecOptions, StartExecResults};
use futures_util::StreamExt;

use super::connect::Docker;
use crate::lab::error::LabError;

/// Most output kept, in bytes: its end.
const KEPT: usize = 64 << 10;

/// What a command in a container came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code.
    pub code: i64,
    /// The end of what it wrote, both streams.
    pub output: String,
}

impl Docker {
    /// Runs `command` in the container and waits for its end.
    ///
    /// # Errors
    /// A container that is not running, or an engine that does not answer.
    pub async fn exec(&self, container: &str, command: &[&str]) -> Result<Ran, LabError> {
        let what = format!("run `{}` in `{container}`", command.join(" "));
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.iter().map(ToString::to_string).collect()),
            ..CreateExecOptions::<String>::default()
        };
        let exec = self.api.create_exec(container, options).await.map_err(|e| self.failed(&what, &e))?;
        let mut kept = Vec::new();
        let started = self.api.start_exec(&exec.id, None).await.map_err(|e| self.failed(&what, &e))?;
        if let StartExecResults::Attached { mut output, .. } = started {
            while let Some(Ok(part)) = output.next().await {
                kept.extend_from_slice(part.as_ref());
                let extra = kept.len().saturating_sub(KEPT);
                kept.drain(..extra);
            }
        }
        let end = self.api.inspect_exec(&exec.id).await.map_err(|e| self.failed(&what, &e))?;
        Ok(Ran { code: end.exit_code.unwrap_or(-1), output: String::from_utf8_lossy(&kept).into_owned() })
    }
}
