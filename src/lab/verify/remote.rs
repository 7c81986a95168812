//! A command on one of the lab's hosts, over SSH.

use super::look::Look;
use crate::base::shell;
use crate::lab::session::Session;
use crate::model::profile::{Reach, SshCheck};
use crate::ssh::{Command, Output, SshError, SshKind, Target, connect};

/// Most output that is kept, in bytes of each stream.
const OUTPUT: usize = 1 << 20;
/// How many of the last lines of it are told.
const LINES: usize = 5;

/// Runs the command once.
pub(super) async fn look(check: &SshCheck, session: &Session) -> Look {
    let target = match target(check, session) {
        Ok(target) => target,
        Err(why) => return Look::Unlooked(vec![why]),
    };
    let host = match connect(&target).await {
        Ok(host) => host,
        Err(error) => return failed(&error, check, session),
    };
    match host.run(&Command::new(&check.run), OUTPUT).await {
        Ok(output) => judge(check, &output),
        Err(error) => failed(&error, check, session),
    }
}

/// A machine that is another one than was pinned will not become the right one by waiting.
fn failed(error: &SshError, check: &SshCheck, session: &Session) -> Look {
    if error.kind() != SshKind::Mismatch {
        return Look::not_yet(error);
    }
    let folder = session.machine.vagrant.as_ref().map(|f| shell::word(f.dir())).unwrap_or_default();
    let hint = format!(
        "if the machine was made anew: `cd {folder} && vagrant provision {}` reads its key again, through Vagrant; otherwise \
         somebody may be in between",
        *check.host
    );
    Look::Mismatch(vec![error.to_string(), hint])
}

fn target(check: &SshCheck, session: &Session) -> Result<Target, String> {
    let host = session.profile.host.iter().find(|h| *h.name == *check.host);
    let host = host.ok_or_else(|| format!("there is no host `{}`", *check.host))?;
    if host.reach != Reach::Vagrant {
        let why = "this version logs in to machines of Vagrant only";
        return Err(format!("host `{}` is none of Vagrant's: {why}", *host.name));
    }
    let Some(folder) = &session.machine.vagrant else {
        return Err(format!(
            "where is the lab's Vagrantfile? Run `labimg verify` in its folder, or name that with --vagrant (host `{}`)",
            *host.name
        ));
    };
    folder.target(&host.name).map_err(|e| match e.advice() {
        Some(hint) => format!("{e}: {hint}"),
        None => e.to_string(),
    })
}

fn judge(check: &SshCheck, output: &Output) -> Look {
    let (stdout, stderr) = (plain(&output.stdout), plain(&output.stderr));
    let mut against = Vec::new();
    if !output.exit.success() {
        against.push(format!("`{}` on {} ended with {}", check.run, *check.host, output.exit));
        against.extend(end(&stderr));
    }
    if let Some(want) = check.output.as_ref().filter(|want| !stdout.contains(want.as_str())) {
        against.push(format!("`{}` on {} did not write `{want}`, but:", check.run, *check.host));
        against.extend(end(&stdout));
    }
    Look::judged(against, || {
        let first = stdout.lines().next().unwrap_or_default().trim();
        match check.output.as_deref().unwrap_or(first) {
            "" => format!("{}: done", *check.host),
            seen => format!("{}: {seen}", *check.host),
        }
    })
}

/// What a command wrote, as text that steers no terminal.
fn plain(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// The last lines of a text.
fn end(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    lines.iter().skip(lines.len().saturating_sub(LINES)).map(|l| format!("  {l}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::Exit;

    #[test]
    fn a_command_is_judged_by_its_end_and_its_output() {
        let check = |text: &str| toml::from_str::<SshCheck>(text).unwrap();
        let output =
            |code, out: &str, err: &str| Output { exit: Exit::Code(code), stdout: out.into(), stderr: err.into() };
        let plain = check("host = 'cp'\nrun = 'uptime'");
        assert_eq!(judge(&plain, &output(0, "up 1 day\n", "")), Look::seen("cp: up 1 day"));
        let Look::NotYet(why) = judge(&plain, &output(2, "", "no\nsuch\n")) else { panic!() };
        assert_eq!(why, ["`uptime` on cp ended with exit code 2", "  no", "  such"]);
        let wants = check("host = 'cp'\nrun = 'uptime'\noutput = '2 days'");
        let Look::NotYet(why) = judge(&wants, &output(0, "up 1 day\n", "")) else { panic!() };
        assert_eq!(why, ["`uptime` on cp did not write `2 days`, but:", "  up 1 day"]);
    }
}
