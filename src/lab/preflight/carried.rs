//! What the bundle must carry for the lab to come up on a machine like this one, and what of the lab nobody brings up.

use crate::build::complete::{self, Instead, Lack, ToolNeed};
use crate::lab::error::LabError;
use crate::lab::finding::Finding;
use crate::lab::session::Session;
use crate::lab::{mirror, run, tools};
use crate::model::platform::Platform;
use crate::model::profile::Engine;

/// Programs that run on this machine.
pub(super) fn programs(session: &Session) -> Vec<Finding> {
    complete::tools(&session.profile).iter().map(|need| tool(session, need)).collect()
}

/// Images that the engine starts itself, and labimg.
pub(super) fn parts(session: &Session) -> Vec<Finding> {
    let profile = &session.profile;
    let mut found = Vec::new();
    if !profile.cluster.iter().any(|c| *c.engine == Engine::Kind) {
        return found;
    }
    if let Ok(image) = mirror::own_image(session) {
        found.push(Finding::ok("labimg for containers", format!("`{}` in the bundle", image.tagged())));
    }
    let mut lacks = complete::parts(profile, &session.lock, nodes_here(session));
    // A kind out of PATH is of no version that the profile states.
    let path = session.machine.tools_from_path;
    lacks.retain(|lack| !(path && lack.part == complete::BALANCER));
    found.extend(lacks.iter().map(|lack| {
        let hint = authors(lack);
        match lack.needed {
            true => Finding::bad(&lack.part, &lack.why, hint),
            false => Finding::warn(&lack.part, &lack.why, hint),
        }
    }));
    let several = profile.cluster.iter().any(|c| complete::load_balancer(profile, c) != complete::Balancer::None);
    if path && several {
        found.push(Finding::warn(
            complete::BALANCER,
            "not looked at: which one kind starts hangs on its version, and kind comes out of PATH",
            format!(
                "labimg knows those of kind {}; take `tools-from-path` away to run the bundle's",
                complete::balancer::KNOWN
            ),
        ));
    }
    found
}

/// What the lab's author does about it, in one line: an attendee cannot mend a bundle.
fn authors(lack: &Lack) -> String {
    match (&lack.lines, &lack.hint) {
        (Some(lines), _) => {
            format!("the author adds `{}` to the profile, then locks and builds again", lines.replace('\n', " "))
        }
        (None, Some(hint)) => format!("for the author: {hint}"),
        (None, None) => "the author locks and builds the lab again".to_owned(),
    }
}

/// The platform of nodes on this machine: that of its processor.
fn nodes_here(session: &Session) -> Option<Platform> {
    let arch = session.machine.platform?.arch();
    [Platform::LinuxAmd64, Platform::LinuxArm64].into_iter().find(|p| p.arch() == arch)
}

fn tool(session: &Session, need: &ToolNeed) -> Finding {
    let seen = match session.machine.tools_from_path {
        true => run::find(&session.machine, need.name)
            .ok_or_else(|| "not in PATH".to_owned())
            .map(|path| path.display().to_string()),
        false => tools::carried(session, need.name).map(|()| "in the bundle".to_owned()).map_err(|e| match e {
            LabError::Failed { why, .. } => why,
            other => other.to_string(),
        }),
    };
    let what = format!("tool {}", need.name);
    let hint = match session.machine.tools_from_path {
        true => format!("install {}, or take `tools-from-path` away: then the bundle's own is run", need.name),
        false => format!(
            "the author adds it to the profile's `[tool.{}]` for this platform and builds again; or set `tools-from-path = true` \
             and install {}",
            need.name, need.name
        ),
    };
    match seen {
        Ok(seen) => Finding::ok(what, seen),
        Err(seen) if need.needed => Finding::bad(what, seen, hint),
        Err(seen) => Finding::warn(what, format!("{seen}; {}", need.by), hint),
    }
}

/// What `labimg up` leaves alone: nothing was looked at there.
pub(super) fn idle(session: &Session) -> Vec<Finding> {
    let bundle = session.bundle.path();
    let all: Vec<complete::Idle> =
        complete::idle(&session.profile).into_iter().filter(|i| !i.what.starts_with("cluster ")).collect();
    let images = session.has_images();
    let finding = |idle: &complete::Idle| {
        let seen = format!("not looked at: {}", idle.why);
        let hint = match &idle.instead {
            Instead::Vagrant => "`labimg box import BUNDLE` makes its folder; there: vagrant up".to_owned(),
            Instead::Compose(_) => complete::by_compose(bundle, std::slice::from_ref(idle), images).join(" && "),
            Instead::Hand => "bring it up as the lab's text says".to_owned(),
        };
        Finding::warn(&idle.what, seen, hint)
    };
    let mut found: Vec<Finding> = all.iter().map(finding).collect();
    let vagrants = all.iter().any(|i| i.instead == Instead::Vagrant);
    if session.profile.cluster.is_empty() && !vagrants {
        let hint = "`labimg inspect` and `labimg ls` show what the bundle holds; use that as the lab's text says";
        found.push(Finding::bad("labimg up", "brings up nothing of this lab: it has no cluster", hint));
    }
    found
}
