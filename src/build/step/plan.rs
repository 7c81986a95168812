//! The steps of a build as a checked graph.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, Input};
use crate::build::BuildError;

/// Steps in an order in which each stands after what it reads.
pub struct Plan {
    actions: Vec<Box<dyn Action>>,
    /// By position: the positions of the steps it reads.
    needs: Vec<BTreeSet<usize>>,
}

impl Plan {
    /// Checks and orders `actions`; where the graph leaves it open they stay in the order given.
    ///
    /// # Errors
    /// Two steps of one name, a step that reads one that is not there, steps that wait for each other.
    pub fn new(actions: Vec<Box<dyn Action>>) -> Result<Self, BuildError> {
        let mut by_name = BTreeMap::new();
        for (at, action) in actions.iter().enumerate() {
            if by_name.insert(action.name(), at).is_some() {
                let message = format!("two steps are called `{}`", action.name());
                return Err(BuildError::user(message, "give one of them another name"));
            }
        }
        let needs = actions.iter().map(|a| needs_of(a.as_ref(), &by_name)).collect::<Result<Vec<_>, _>>()?;
        let order = sort(&actions, &needs)?;
        let mut place = vec![0; order.len()];
        for (new, old) in order.iter().enumerate() {
            place[*old] = new;
        }
        let needs = order.iter().map(|old| needs[*old].iter().map(|n| place[*n]).collect()).collect();
        let mut slots: Vec<Option<Box<dyn Action>>> = actions.into_iter().map(Some).collect();
        let actions = order.iter().filter_map(|old| slots[*old].take()).collect();
        Ok(Self { actions, needs })
    }

    /// The steps, each after those it reads.
    pub fn actions(&self) -> impl Iterator<Item = &dyn Action> {
        self.actions.iter().map(AsRef::as_ref)
    }

    /// How many steps there are.
    pub fn len(&self) -> usize {
        self.actions.len()
    }

    /// Whether there is nothing to build.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    /// The step called `name`.
    pub fn find(&self, name: &str) -> Option<&dyn Action> {
        self.actions().find(|a| a.name() == name)
    }

    /// By position in [`Self::actions`]: the positions of the steps it reads.
    pub(super) fn needs(&self) -> &[BTreeSet<usize>] {
        &self.needs
    }
}

fn needs_of(action: &dyn Action, by_name: &BTreeMap<String, usize>) -> Result<BTreeSet<usize>, BuildError> {
    let mut needs = BTreeSet::new();
    for (label, input) in action.inputs() {
        let Input::Step { step, .. } = input else { continue };
        let Some(at) = by_name.get(&step) else {
            let message = format!("{}: its input `{label}` is of `{step}`, and there is no such step", action.name());
            let known: Vec<&str> = by_name.keys().map(String::as_str).collect();
            return Err(BuildError::user(message, format!("steps there are: {}", known.join(", "))));
        };
        needs.insert(*at);
    }
    Ok(needs)
}

/// Positions in an order that respects `needs`.
fn sort(actions: &[Box<dyn Action>], needs: &[BTreeSet<usize>]) -> Result<Vec<usize>, BuildError> {
    let mut open: Vec<usize> = needs.iter().map(BTreeSet::len).collect();
    let mut wanted_by: Vec<Vec<usize>> = vec![Vec::new(); needs.len()];
    for (at, of) in needs.iter().enumerate() {
        for need in of {
            wanted_by[*need].push(at);
        }
    }
    let mut ready: BTreeSet<usize> = (0..needs.len()).filter(|at| open[*at] == 0).collect();
    let mut order = Vec::with_capacity(needs.len());
    while let Some(at) = ready.pop_first() {
        order.push(at);
        for next in &wanted_by[at] {
            open[*next] -= 1;
            if open[*next] == 0 {
                ready.insert(*next);
            }
        }
    }
    if order.len() == needs.len() {
        return Ok(order);
    }
    let circle: Vec<String> = circle(&open, needs).iter().map(|at| actions[*at].name()).collect();
    let message = format!("these steps wait for each other: {}", circle.join(" -> "));
    Err(BuildError::user(message, "let one of them do without the other's output"))
}

/// One circle among the steps that are still open, its first step named again at its end.
fn circle(open: &[usize], needs: &[BTreeSet<usize>]) -> Vec<usize> {
    let mut path: Vec<usize> = Vec::new();
    let mut at = open.iter().position(|n| *n > 0);
    while let Some(step) = at {
        if let Some(start) = path.iter().position(|p| *p == step) {
            path.push(step);
            return path.split_off(start);
        }
        path.push(step);
        at = needs[step].iter().copied().find(|need| open[*need] > 0);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::step::{Cost, Outputs, Run};

    struct Named(&'static str, &'static [&'static str]);

    impl Action for Named {
        fn name(&self) -> String {
            self.0.to_owned()
        }
        fn builder(&self) -> &'static str {
            "test/1"
        }
        fn params(&self) -> serde_json::Value {
            serde_json::Value::Null
        }
        fn inputs(&self) -> BTreeMap<String, Input> {
            let input = |s: &&str| ((*s).to_owned(), Input::Step { step: (*s).to_owned(), output: "out".to_owned() });
            self.1.iter().map(input).collect()
        }
        fn cost(&self) -> Cost {
            Cost { cores: 1, memory: 1 }
        }
        fn run(&self, _: &Run<'_>) -> Result<Outputs, BuildError> {
            Ok(Outputs::new())
        }
    }

    fn plan(steps: &[(&'static str, &'static [&'static str])]) -> Result<Vec<String>, String> {
        let actions = steps.iter().map(|(n, of)| Box::new(Named(n, of)) as Box<dyn Action>).collect();
        Plan::new(actions).map(|p| p.actions().map(Action::name).collect()).map_err(|e| e.to_string())
    }

    #[test]
    fn steps_stand_after_what_they_read() {
        assert_eq!(plan(&[("c", &["b"]), ("z", &[]), ("b", &["a"]), ("a", &[])]).unwrap(), ["z", "a", "b", "c"]);
        assert!(plan(&[]).unwrap().is_empty());
    }

    #[test]
    fn impossible_plans_are_told() {
        assert_eq!(plan(&[("a", &[]), ("a", &[])]).unwrap_err(), "two steps are called `a`");
        assert_eq!(plan(&[("a", &["x"])]).unwrap_err(), "a: its input `x` is of `x`, and there is no such step");
        assert_eq!(plan(&[("a", &["a"])]).unwrap_err(), "these steps wait for each other: a -> a");
        let waiting = plan(&[("d", &["c"]), ("a", &["b"]), ("b", &["c"]), ("c", &["a"])]).unwrap_err();
        assert_eq!(waiting, "these steps wait for each other: c -> a -> b -> c");
    }
}
