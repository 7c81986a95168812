//! Why a machine would not let us make a sandbox, in a sentence with a way out.

use std::io;

use super::init::Status;

/// A sandbox that could not be made.
#[derive(Debug)]
pub(super) struct Failure {
    what: String,
    hint: Option<String>,
}

impl Failure {
    /// One that has nothing to do with what a machine allows.
    pub(super) fn plain(what: String) -> Self {
        Self { what, hint: None }
    }

    /// One with a way out.
    pub(super) fn with(what: String, hint: String) -> Self {
        Self { what, hint: Some(hint) }
    }

    /// As the helper writes it down.
    pub(super) fn status(&self) -> Status {
        Status::Failed { what: self.what.clone(), hint: self.hint.clone() }
    }
}

/// The kernel refused `what` (a verb and its object).
pub(super) fn refused(what: &str, error: io::Error) -> Failure {
    let setting = |path: &str| fs_err::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let forbidden = matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    );
    let hint = if forbidden || error.raw_os_error() == Some(rustix::io::Errno::USERS.raw_os_error()) {
        Some(way_out(setting))
    } else {
        None
    };
    let error = match error.kind() {
        // What unshare(2) says where a limit is reached has nothing to do with a disk.
        io::ErrorKind::StorageFull => "no more of them are allowed".to_owned(),
        _ => error.to_string(),
    };
    let what = format!("build steps run in namespaces of their own, and this machine does not let us {what}: {error}");
    Failure { what, hint }
}

/// What an administrator can do, by the settings that are known to be in the way.
fn way_out(setting: impl Fn(&str) -> Option<String>) -> String {
    let is = |path: &str, value: &str| setting(path).as_deref() == Some(value);
    let command = if is("/proc/sys/user/max_user_namespaces", "0") {
        "sysctl user.max_user_namespaces=15000"
    } else if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "sysctl kernel.unprivileged_userns_clone=1"
    } else if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    } else {
        return "run labimg where user namespaces are allowed; a container needs `--privileged`, or seccomp and AppArmor \
                profiles that allow unshare and mount"
            .to_owned();
    };
    format!("ask whoever runs this machine for: {command}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_in_the_way_is_named() {
        let on = |name: &'static str, value: &'static str| {
            way_out(move |path| path.ends_with(name).then(|| value.to_owned()))
        };
        assert!(on("max_user_namespaces", "0").contains("user.max_user_namespaces=15000"));
        assert!(on("unprivileged_userns_clone", "0").contains("kernel.unprivileged_userns_clone=1"));
        assert!(on("apparmor_restrict_unprivileged_userns", "1").contains("restrict_unprivileged_userns=0"));
        assert!(on("max_user_namespaces", "96343").contains("--privileged"));
        let failure = refused("make a user namespace", io::ErrorKind::PermissionDenied.into());
        assert!(failure.hint.is_some() && failure.what.contains("make a user namespace"), "{failure:?}");
        assert!(refused("x", io::ErrorKind::NotFound.into()).hint.is_none());
        let limit = refused("make a user namespace", io::Error::from_raw_os_error(28));
        assert!(
            limit.hint.is_some() && limit.what.ends_with("a user namespace: no more of them are allowed"),
            "{limit:?}"
        );
    }
}
