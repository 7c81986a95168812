//! What is to be done about a cluster, from what is known of it.

use crate::lab::docker::container::Found;
use crate::lab::state::ClusterFile;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plan {
    /// There is nothing: make it.
    Make,
    /// It is half made: take that away, then make it.
    Remake,
    /// It is there; these nodes are stopped, or came back under another address: put them back and start them.
    Start(Vec<String>),
    /// A cluster of that name that is not this lab's.
    Foreign,
    /// It was made from another configuration.
    Differs,
}

/// Decides, given what `lab.json` says, the node containers, whether they are ours, how many there must be, and the digest of
/// the configuration as it would be written now.
pub(super) fn plan(file: Option<&ClusterFile>, nodes: &[Found], ours: bool, count: usize, digest: &str) -> Plan {
    if nodes.is_empty() {
        return Plan::Make;
    }
    if !ours {
        return Plan::Foreign;
    }
    match file {
        Some(file) if file.made && nodes.len() == count => {
            if file.configuration != digest {
                return Plan::Differs;
            }
            let moved = |n: &Found| file.addresses.get(&n.name).is_some_and(|a| n.address != Some(*a));
            Plan::Start(nodes.iter().filter(|n| !n.is_running() || moved(n)).map(|n| n.name.clone()).collect())
        }
        _ => Plan::Remake,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(state: &str) -> Found {
        let (labels, mounts) = Default::default();
        Found { name: state.to_owned(), state: state.to_owned(), labels, mounts, ports: Vec::new(), address: None }
    }

    fn made() -> ClusterFile {
        ClusterFile { made: true, configuration: "d".to_owned(), ..ClusterFile::default() }
    }

    #[test]
    fn nothing_is_made() {
        assert_eq!(plan(None, &[], false, 1, "d"), Plan::Make);
        // Somebody removed all its nodes.
        assert_eq!(plan(Some(&made()), &[], false, 1, "d"), Plan::Make);
    }

    #[test]
    fn what_is_not_ours_stays() {
        assert_eq!(plan(None, &[node("running")], false, 1, "d"), Plan::Foreign);
        assert_eq!(plan(Some(&made()), &[node("running")], false, 1, "d"), Plan::Foreign);
    }

    #[test]
    fn half_made_is_made_anew() {
        let half = ClusterFile { made: false, ..made() };
        assert_eq!(plan(Some(&half), &[node("running")], true, 1, "d"), Plan::Remake);
        assert_eq!(plan(None, &[node("running")], true, 1, "d"), Plan::Remake);
        // A node is gone: kind can not add one.
        assert_eq!(plan(Some(&made()), &[node("running")], true, 2, "d"), Plan::Remake);
    }

    #[test]
    fn what_is_there_is_started_at_most() {
        assert_eq!(plan(Some(&made()), &[node("running")], true, 1, "d"), Plan::Start(Vec::new()));
        let two = [node("running"), node("exited")];
        assert_eq!(plan(Some(&made()), &two, true, 2, "d"), Plan::Start(vec!["exited".to_owned()]));
        assert_eq!(plan(Some(&made()), &two, true, 2, "e"), Plan::Differs);
        // The engine started it by itself, and gave it another node's address.
        let mut file = made();
        file.addresses.insert("running".to_owned(), [172, 18, 0, 4].into());
        let mut node = node("running");
        node.address = Some([172, 18, 0, 5].into());
        assert_eq!(plan(Some(&file), &[node.clone()], true, 1, "d"), Plan::Start(vec!["running".to_owned()]));
        node.address = Some([172, 18, 0, 4].into());
        assert_eq!(plan(Some(&file), &[node], true, 1, "d"), Plan::Start(Vec::new()));
    }
}
