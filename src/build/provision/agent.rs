//! What is put into a machine so that steps can log in, and is never in what becomes of it: an SSH server of its own.
//!
//! It has nothing to do with the machine's own server, keys and accounts: a step may change all of these. Its host key is made in
//! `/run` at every boot and told over the second serial port, which nobody but the machine writes to; the key that may log in
//! comes with the kernel's command line (a public key is no secret).

use std::sync::Arc;

use crate::build::BuildError;
use crate::build::tree::{Content, Entry, Tree};
use crate::model::guest_path::GuestPath;

/// The port of the server in the machine.
pub(super) const PORT: u16 = 22022;
/// Where the server and the steps keep their files; gone with the boot.
pub(super) const DIR: &str = "/run/labimg";
/// The parameter of the kernel that holds the public key: the second word of a line of `authorized_keys`.
pub(super) const KEY: &str = "labimg.key";

const UNIT: &str = "etc/systemd/system/labimg-provision.service";
const WANTED: &str = "etc/systemd/system/multi-user.target.wants/labimg-provision.service";
const SCRIPT: &str = "etc/labimg-provision";

const UNIT_TEXT: &str = "[Unit]
Description=SSH server for the steps of labimg
After=network.target

[Service]
ExecStart=/bin/sh /etc/labimg-provision
KillMode=process
OOMScoreAdjust=-1000

[Install]
WantedBy=multi-user.target
";

const SCRIPT_TEXT: &str = r#"set -eu
umask 077
mkdir -p /run/labimg
mkdir -p -m 755 /run/sshd
cd /run/labimg
for word in $(cat /proc/cmdline); do
  case $word in labimg.key=*) echo "ssh-ed25519 ${word#*=}" > authorized_keys;; esac
done
rm -f host host.pub
ssh-keygen -q -t ed25519 -N '' -C '' -f host
cat > sshd_config <<END
Port 22022
AddressFamily inet
HostKey /run/labimg/host
AuthorizedKeysFile /run/labimg/authorized_keys
PidFile none
PermitRootLogin prohibit-password
AuthenticationMethods publickey
AllowUsers root
StrictModes no
UsePAM yes
UseDNS no
PrintMotd no
PrintLastLog no
Ciphers aes128-gcm@openssh.com,chacha20-poly1305@openssh.com
END
cat host.pub > /dev/ttyS1
umask 022
exec /usr/sbin/sshd -D -e -f /run/labimg/sshd_config
"#;

/// Puts the server into a tree.
///
/// # Errors
/// A tree without OpenSSH's server.
pub(super) fn put(tree: &mut Tree, what: &str) -> Result<(), BuildError> {
    let path = |text: &str| GuestPath::parse(text);
    if tree.get(&path("usr/sbin/sshd")?).is_none() {
        let message = format!("{what}: the machine has no SSH server, and steps run over SSH");
        return Err(BuildError::user(message, "add openssh-server to its packages"));
    }
    let origin: Arc<str> = "labimg".into();
    for (at, text) in [(UNIT, UNIT_TEXT), (SCRIPT, SCRIPT_TEXT)] {
        tree.put(path(at)?, Entry::file(&origin, 0o644, Content::bytes(text.as_bytes())));
    }
    tree.put(path(WANTED)?, Entry::symlink(&origin, format!("/{UNIT}")));
    Ok(())
}

/// Whether a path is one of those that [`put`] made.
pub(super) fn is_ours(path: &str) -> bool {
    [UNIT, WANTED, SCRIPT].contains(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_server_is_refused() {
        let mut tree = Tree::default();
        let error = put(&mut tree, "box m").unwrap_err();
        assert_eq!(error.to_string(), "box m: the machine has no SSH server, and steps run over SSH");
        tree.put(GuestPath::parse("usr/sbin/sshd").unwrap(), Entry::file(&"x".into(), 0o755, Content::bytes(*b"x")));
        put(&mut tree, "box m").unwrap();
        assert!(tree.entries.keys().filter(|p| is_ours(p.as_str())).count() == 3);
        assert!(SCRIPT_TEXT.contains(&format!("Port {PORT}\n")) && SCRIPT_TEXT.contains(&format!("{KEY}=*")));
        assert!(SCRIPT_TEXT.contains(DIR));
    }
}
