//! Which deploys run, and when: each as soon as what it needs is ready. Pure but for the futures it is given.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::Options;
use crate::lab::error::LabError;
use crate::model::profile::Deploy;

/// A deploy that runs, and the deploys it waits for; by place in the profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) index: usize,
    pub(super) after: Vec<usize>,
}

/// How a node ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End<T> {
    /// It ran.
    Ran(T),
    /// It did not run, for this one (by place in the profile) went wrong.
    Skipped(usize),
}

/// The deploys that `options` ask for, in the profile's order.
///
/// # Errors
/// A deploy that is not there.
pub(super) fn select(deploys: &[Deploy], options: &Options) -> Result<Vec<Node>, LabError> {
    let places: BTreeMap<&str, usize> = deploys.iter().enumerate().map(|(i, d)| (d.name.as_str(), i)).collect();
    let find = |name: &str| {
        let known = || deploys.iter().map(|d| d.name.to_string()).collect::<Vec<_>>().join(", ");
        let none = || {
            LabError::failed(format!("there is no deploy `{name}`"), "the lab's profile has none of that name")
                .hint(format!("deploys of this lab: {}", known()))
        };
        places.get(name).copied().ok_or_else(none)
    };
    let needs = |index: usize| {
        let after = deploys.get(index).map(|d| d.after.as_slice()).unwrap_or_default();
        after.iter().filter_map(|name| places.get(name.as_str()).copied()).collect::<Vec<_>>()
    };
    if let Some(only) = &options.only {
        return Ok(vec![Node { index: find(only)?, after: Vec::new() }]);
    }
    let wanted: BTreeSet<usize> = match &options.until {
        None => (0..deploys.len()).collect(),
        Some(until) => {
            let mut wanted = BTreeSet::new();
            let mut open = vec![find(until)?];
            while let Some(index) = open.pop() {
                if wanted.insert(index) {
                    open.extend(needs(index));
                }
            }
            wanted
        }
    };
    Ok(wanted.into_iter().map(|index| Node { index, after: needs(index) }).collect())
}

/// Runs every node when all it is after went well; gives how each ended, in the order of `nodes`. A circle (which a checked
/// profile has not) counts as gone wrong.
pub(super) async fn walk<T, F>(nodes: &[Node], run: impl Fn(usize) -> F, well: impl Fn(&T) -> bool) -> Vec<End<T>>
where
    F: Future<Output = T>,
{
    let mut ends: BTreeMap<usize, End<T>> = BTreeMap::new();
    let mut waiting: Vec<&Node> = nodes.iter().collect();
    let mut running = FuturesUnordered::new();
    loop {
        let mut moved = true;
        while moved {
            moved = false;
            waiting.retain(|node| match standing(node, &ends, &well) {
                Standing::Wait => true,
                Standing::Go => {
                    let (index, future) = (node.index, run(node.index));
                    running.push(async move { (index, future.await) });
                    moved = true;
                    false
                }
                Standing::Skip(cause) => {
                    ends.insert(node.index, End::Skipped(cause));
                    moved = true;
                    false
                }
            });
        }
        match running.next().await {
            Some((index, end)) => {
                ends.insert(index, End::Ran(end));
            }
            None => break,
        }
    }
    let end = |node: &Node| ends.remove(&node.index).unwrap_or(End::Skipped(node.index));
    nodes.iter().map(end).collect()
}

enum Standing {
    Wait,
    Go,
    Skip(usize),
}

fn standing<T>(node: &Node, ends: &BTreeMap<usize, End<T>>, well: &impl Fn(&T) -> bool) -> Standing {
    let mut standing = Standing::Go;
    for need in &node.after {
        match ends.get(need) {
            Some(End::Ran(end)) if well(end) => {}
            Some(End::Ran(_)) => return Standing::Skip(*need),
            // The one at the root of it is what a person has to look at.
            Some(End::Skipped(cause)) => return Standing::Skip(*cause),
            None => standing = Standing::Wait,
        }
    }
    standing
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;
    use crate::model::profile::Profile;

    fn deploys(list: &[(&str, &[&str])]) -> Vec<Deploy> {
        let table = |(name, after): &(&str, &[&str])| format!("[[deploy]]\nname = \"{name}\"\nafter = {after:?}\n");
        let text: String = list.iter().map(table).collect();
        toml::from_str::<Profile>(&format!("schema = 1\nname = \"x\"\n{text}")).unwrap().deploy
    }

    fn indices(nodes: &[Node]) -> Vec<usize> {
        nodes.iter().map(|n| n.index).collect()
    }

    #[test]
    fn only_and_until_choose() {
        let d = deploys(&[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &["a"]), ("e", &[])]);
        let options = |only: Option<&str>, until: Option<&str>| Options {
            only: only.map(str::to_owned),
            until: until.map(str::to_owned),
        };
        assert_eq!(indices(&select(&d, &options(None, None)).unwrap()), [0, 1, 2, 3, 4]);
        assert_eq!(indices(&select(&d, &options(None, Some("c"))).unwrap()), [0, 1, 2]);
        assert_eq!(select(&d, &options(Some("c"), None)).unwrap(), [Node { index: 2, after: vec![] }]);
        let error = select(&d, &options(Some("x"), None)).unwrap_err();
        assert_eq!(error.advice(), Some("deploys of this lab: a, b, c, d, e"));
    }

    #[tokio::test(start_paused = true)]
    async fn nodes_run_at_once_and_failures_stop_dependants_only() {
        let d = deploys(&[("a", &[]), ("b", &[]), ("c", &["a"]), ("d", &["b"]), ("e", &["c"]), ("f", &["a", "b"])]);
        let nodes = select(&d, &Options::default()).unwrap();
        let order = Mutex::new(Vec::new());
        let start = tokio::time::Instant::now();
        let run = |index: usize| {
            order.lock().unwrap().push(index);
            async move {
                tokio::time::sleep(Duration::from_secs(if index == 1 { 3 } else { 1 })).await;
                index != 0
            }
        };
        let ends = walk(&nodes, run, |ok| *ok).await;
        use End::{Ran, Skipped};
        assert_eq!(ends, [Ran(false), Ran(true), Skipped(0), Ran(true), Skipped(0), Skipped(0)]);
        assert_eq!(*order.lock().unwrap(), [0, 1, 3]);
        assert_eq!(start.elapsed().as_secs(), 4);
    }

    #[tokio::test]
    async fn a_circle_ends() {
        let nodes = [Node { index: 0, after: vec![1] }, Node { index: 1, after: vec![0] }];
        let ends = walk(&nodes, |_| async { true }, |ok| *ok).await;
        assert_eq!(ends, [End::Skipped(0), End::Skipped(1)]);
    }
}
