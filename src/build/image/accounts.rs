//! Users and groups of an image: `/etc/passwd` and `/etc/group` read (passwd(5), group(5)), users added, owners looked up.

use crate::base::shown;
use crate::build::BuildError;
use crate::build::listing::Listing;
use crate::model::image_def::ImageUser;

/// What a tree without packages starts with.
const ROOT: [&str; 2] = ["root:x:0:0:root:/root:/usr/sbin/nologin\n", "root:x:0:\n"];

/// Texts of the account files. `shadow` and `gshadow` stay `None` where the image has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    /// `/etc/passwd`.
    pub passwd: String,
    /// `/etc/group`.
    pub group: String,
    /// `/etc/shadow`.
    pub shadow: Option<String>,
    /// `/etc/gshadow`.
    pub gshadow: Option<String>,
}

impl Accounts {
    /// Those of the layers below.
    pub fn of(listing: &Listing) -> Self {
        let text = |path| Some(listing.account(path)).filter(|t| !t.is_empty()).map(with_line_end);
        Self {
            passwd: text("etc/passwd").unwrap_or_default(),
            group: text("etc/group").unwrap_or_default(),
            shadow: text("etc/shadow"),
            gshadow: text("etc/gshadow"),
        }
    }

    /// These and `users`, in the order given; groups are made where the id has none yet.
    ///
    /// # Errors
    /// Names and ids that somebody else has.
    pub fn with(&self, users: &[ImageUser]) -> Result<Self, BuildError> {
        let mut all = self.clone();
        if all.passwd.is_empty() && !users.is_empty() {
            all.passwd = ROOT[0].to_owned();
        }
        if all.group.is_empty() && !users.is_empty() {
            all.group = ROOT[1].to_owned();
        }
        for user in users {
            all.add(user)?;
        }
        Ok(all)
    }

    /// The numeric user of a name.
    pub fn user(&self, name: &str) -> Option<u32> {
        lines(&self.passwd).find(|l| l.first() == Some(&name))?.get(2)?.parse().ok()
    }

    /// The numeric group of a name.
    pub fn group_id(&self, name: &str) -> Option<u32> {
        lines(&self.group).find(|l| l.first() == Some(&name))?.get(2)?.parse().ok()
    }

    /// User and group of an owner as image.toml gives it. Without a group it is the user's own; a number that nobody has
    /// stands for both.
    ///
    /// # Errors
    /// Names that the image does not have; `what` the owner is of, for people.
    pub fn owner(&self, owner: Option<&str>, what: &str) -> Result<(u32, u32), BuildError> {
        let Some(owner) = owner else { return Ok((0, 0)) };
        let (user, group) = owner.split_once(':').map_or((owner, None), |(u, g)| (u, Some(g)));
        let uid = user.parse().ok().or_else(|| self.user(user)).ok_or_else(|| self.unknown("user", user, what))?;
        let gid = match group {
            Some(group) => {
                group.parse().ok().or_else(|| self.group_id(group)).ok_or_else(|| self.unknown("group", group, what))?
            }
            None => self.primary(uid).unwrap_or(uid),
        };
        Ok((uid, gid))
    }

    fn primary(&self, uid: u32) -> Option<u32> {
        lines(&self.passwd).find(|l| id(l, 2) == Some(uid)).and_then(|l| id(&l, 3))
    }

    fn unknown(&self, kind: &str, name: &str, what: &str) -> BuildError {
        let table = if kind == "user" { &self.passwd } else { &self.group };
        let known: Vec<&str> = lines(table).filter_map(|l| l.first().copied()).collect();
        let near = shown::nearest(name, known.into_iter());
        let hint = match near.filter(|n| shown::alike(name, n) > 0.75) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("add a `[[user]]` called `{name}`, or give a number"),
        };
        BuildError::user(format!("{what}: the image has no {kind} called `{name}`"), hint)
    }

    fn add(&mut self, user: &ImageUser) -> Result<(), BuildError> {
        let (name, uid) = (user.name.as_str(), *user.uid);
        let gid = user.gid.as_ref().map_or(uid, |g| **g);
        let clash = lines(&self.passwd).find(|l| l.first() == Some(&name) || id(l, 2) == Some(uid));
        if let Some(other) = clash {
            let (theirs, number) =
                (other.first().copied().unwrap_or_default(), other.get(2).copied().unwrap_or_default());
            return Err(clash_of("user", name, uid, theirs, number));
        }
        let of_id = lines(&self.group).find(|l| id(l, 2) == Some(gid)).map(|l| l.first().copied().unwrap_or_default());
        match (of_id, self.group_id(name)) {
            (Some(_), _) if user.gid.is_some() => {}
            (Some(other), _) => return Err(clash_of("group", name, gid, other, &gid.to_string())),
            (None, Some(number)) => return Err(clash_of("group", name, gid, name, &number.to_string())),
            (None, None) => {
                self.group += &format!("{name}:x:{gid}:\n");
                push(&mut self.gshadow, &format!("{name}:!*::\n"));
            }
        }
        let home = user.home.as_ref().map_or("/nonexistent", |h| h.as_str());
        let shell = user.shell.as_ref().map_or("/usr/sbin/nologin", |s| s.as_str());
        self.passwd += &format!("{name}:x:{uid}:{gid}::{home}:{shell}\n");
        // No day of the last change (shadow(5)): ageing is off, and the line knows no clock.
        push(&mut self.shadow, &format!("{name}:!*:::::::\n"));
        Ok(())
    }
}

fn clash_of(kind: &str, name: &str, id: u32, theirs: &str, number: &str) -> BuildError {
    BuildError::user(
        format!("{kind} `{name}` ({id}) of image.toml clashes with {kind} `{theirs}` ({number}) of the image"),
        "give it another name or id",
    )
}

fn push(text: &mut Option<String>, line: &str) {
    if let Some(text) = text {
        *text += line;
    }
}

fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter(|l| !l.is_empty()).map(|l| l.split(':').collect())
}

fn id(line: &[&str], field: usize) -> Option<u32> {
    line.get(field)?.parse().ok()
}

fn with_line_end(text: &str) -> String {
    if text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") }
}
