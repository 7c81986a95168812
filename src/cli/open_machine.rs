//! `labimg build --on-failure shell`: a person looks into the machine whose step failed.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use super::print;
use super::progress::Progress;
use crate::base::shell;
use crate::build::provision::{OnFailure, Opened};

/// Starts the system's `ssh` on the terminal, and lets the build end when it does.
pub(super) fn by_shell(progress: Arc<Progress>) -> OnFailure {
    OnFailure(Arc::new(move |machine| {
        progress.clear();
        let argv = argv(machine);
        print::to_stderr(&format!("{} failed: {}", machine.step, machine.why));
        print::to_stderr(&format!(
            "the machine is open as it is, until this shell ends; from elsewhere:\n  {}\nits serial console: {}",
            line(&argv),
            shell::word(&machine.console)
        ));
        let Some((program, args)) = argv.split_first() else { return };
        if let Err(e) = Command::new(program).args(args).status() {
            print::to_stderr(&format!("can not run `ssh` ({e}): apt-get install openssh-client"));
        }
    }))
}

/// As one types it.
fn line(argv: &[String]) -> String {
    argv.iter().map(|word| shell::word(Path::new(word))).collect::<Vec<_>>().join(" ")
}

fn argv(machine: &Opened) -> Vec<String> {
    // ssh_config(5): a name with a space stands in double quotes.
    let known = format!("UserKnownHostsFile=\"{}\"", machine.known_hosts.display());
    let fixed = ["ssh", "-F", "/dev/null", "-o", &known, "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes"];
    let rest = ["-i".to_owned(), machine.key.display().to_string(), "-p".to_owned(), machine.port.to_string()];
    fixed.map(str::to_owned).into_iter().chain(rest).chain(["root@127.0.0.1".to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_s_key_is_the_only_one_trusted() {
        let machine = Opened {
            step: "s".into(),
            why: "w".into(),
            port: 4022,
            key: "/k".into(),
            known_hosts: "/h".into(),
            console: "/c".into(),
        };
        let line = line(&argv(&machine));
        assert!(line.contains("-o 'UserKnownHostsFile=\"/h\"' -o StrictHostKeyChecking=yes"), "{line}");
        assert!(line.ends_with("-i /k -p 4022 root@127.0.0.1"), "{line}");
    }
}
