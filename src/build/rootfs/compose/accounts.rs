//! Users and groups of a machine, as the text files they are: passwd(5), group(5), shadow(5), gshadow(5), subuid(5).

use super::over::Over;
use super::wishes::User;
use crate::build::BuildError;

/// Files and the modes they get where they are not there.
const FILES: [(&str, u32); 6] = [
    ("etc/passwd", 0o644),
    ("etc/group", 0o644),
    ("etc/shadow", 0o640),
    ("etc/gshadow", 0o640),
    ("etc/subuid", 0o644),
    ("etc/subgid", 0o644),
];
/// The first id of the first range of subordinate ids, and how many each user gets (login.defs(5): `SUB_UID_MIN`,
/// `SUB_UID_COUNT`).
const SUB: (u64, u64) = (100_000, 65_536);
/// Seconds of a day.
const DAY: u64 = 86_400;

/// Texts of the account files.
pub(super) struct Accounts {
    texts: [String; 6],
}

impl Accounts {
    /// Those of a tree.
    ///
    /// # Errors
    /// A tree without `/etc/passwd`: it is no machine's.
    pub(super) fn read(over: &Over<'_>) -> Result<Self, BuildError> {
        let text = |path: &str| {
            let text = over.text(path).unwrap_or_default();
            if text.is_empty() || text.ends_with('\n') { text } else { text + "\n" }
        };
        let texts = FILES.map(|(path, _)| text(path));
        match texts.first().is_some_and(|passwd| !passwd.is_empty()) {
            true => Ok(Self { texts }),
            false => Err(BuildError::bad("the root tree", "it has no `/etc/passwd`")),
        }
    }

    /// Writes them back.
    ///
    /// # Errors
    /// Links in their places that lead nowhere.
    pub(super) fn write(self, over: &mut Over<'_>) -> Result<Self, BuildError> {
        for ((path, mode), text) in FILES.iter().zip(&self.texts).filter(|(_, text)| !text.is_empty()) {
            over.rewrite(path, *mode, text.clone())?;
        }
        Ok(self)
    }

    /// Adds a user; one called `root` is there already. `epoch` in seconds since 1970.
    ///
    /// # Errors
    /// Names that are none, names and ids that somebody has, groups that are not there.
    pub(super) fn add(&mut self, user: &User, epoch: u64) -> Result<(), BuildError> {
        let User { name, uid, .. } = user;
        if name == "root" {
            return Ok(());
        }
        check_name(name)?;
        self.check_free(name, *uid)?;
        for group in &user.groups {
            self.join(name, group)?;
        }
        let [passwd, group, shadow, gshadow, subuid, subgid] = &mut self.texts;
        *passwd += &format!("{name}:x:{uid}:{uid}::{}:{}\n", home(name), user.shell);
        *group += &format!("{name}:x:{uid}:\n");
        // No password fits; keys do.
        *shadow += &format!("{name}:*:{}:0:99999:7:::\n", epoch / DAY);
        *gshadow += &format!("{name}:!::\n");
        for text in [subuid, subgid] {
            let start = SUB.0 + SUB.1 * text.lines().count() as u64;
            *text += &format!("{name}:{start}:{}\n", SUB.1);
        }
        Ok(())
    }

    /// Whether there is a user of this name.
    pub(super) fn has_user(&self, name: &str) -> bool {
        self.passwd().lines().any(|l| l.split(':').next() == Some(name))
    }

    /// Whether a user or a group has this number.
    pub(super) fn has_id(&self, id: u32) -> bool {
        let id = id.to_string();
        [self.passwd(), self.group()].iter().any(|t| t.lines().any(|l| l.split(':').nth(2) == Some(id.as_str())))
    }

    fn check_free(&self, name: &str, uid: u32) -> Result<(), BuildError> {
        let number = uid.to_string();
        for (text, kind) in [(self.passwd(), "user"), (self.group(), "group")] {
            let mut lines = text.lines().map(|l| l.split(':').collect::<Vec<_>>());
            if let Some(other) = lines.find(|l| l.first() == Some(&name) || l.get(2) == Some(&number.as_str())) {
                let (theirs, id) = (other.first().unwrap_or(&""), other.get(2).unwrap_or(&""));
                return Err(BuildError::user(
                    format!("{kind} `{name}` ({uid}) clashes with {kind} `{theirs}` ({id}) of the box"),
                    "give it another name or id",
                ));
            }
        }
        Ok(())
    }

    /// Adds a user to a group, in both files.
    fn join(&mut self, user: &str, to: &str) -> Result<(), BuildError> {
        let [_, group, _, gshadow, ..] = &mut self.texts;
        let mut found = false;
        for text in [group, gshadow] {
            let line = |line: &str| {
                let Some((before, members)) = line.rsplit_once(':').filter(|_| line.starts_with(&format!("{to}:")))
                else {
                    return format!("{line}\n");
                };
                found = true;
                let comma = if members.is_empty() { "" } else { "," };
                format!("{before}:{members}{comma}{user}\n")
            };
            *text = text.lines().map(line).collect();
        }
        if found {
            return Ok(());
        }
        let known: Vec<&str> = self.group().lines().filter_map(|l| l.split(':').next()).collect();
        Err(BuildError::user(
            format!("user `{user}` shall be in the group `{to}`, which the box does not have"),
            format!("name the package that brings it, or one of: {}", known.join(", ")),
        ))
    }

    /// User and group of an owner: `user`, `user:group`, names or numbers; root where it is not said.
    ///
    /// # Errors
    /// Names that the box does not have.
    pub(super) fn owner(&self, owner: Option<&str>, what: &str) -> Result<(u32, u32), BuildError> {
        let Some(owner) = owner else { return Ok((0, 0)) };
        let (user, group) = owner.split_once(':').map_or((owner, None), |(u, g)| (u, Some(g)));
        let unknown = |kind: &str, name: &str| {
            BuildError::user(
                format!("{what}: the box has no {kind} called `{name}`"),
                "give a number, or name the package or user that brings it",
            )
        };
        let line = id_line(self.passwd(), user);
        let uid = line.map(|(uid, _)| uid).or_else(|| user.parse().ok()).ok_or_else(|| unknown("user", user))?;
        let gid = match group {
            Some(name) => id_line(self.group(), name).map(|(gid, _)| gid).or_else(|| name.parse().ok()),
            None => Some(line.and_then(|(_, gid)| gid).unwrap_or(uid)),
        };
        Ok((uid, gid.ok_or_else(|| unknown("group", group.unwrap_or_default()))?))
    }

    fn passwd(&self) -> &str {
        let [passwd, ..] = &self.texts;
        passwd
    }

    fn group(&self) -> &str {
        let [_, group, ..] = &self.texts;
        group
    }
}

/// Where a user lives.
pub(super) fn home(name: &str) -> String {
    if name == "root" { "/root".to_owned() } else { format!("/home/{name}") }
}

/// Third and fourth field of the line of a name, or of a number.
fn id_line(text: &str, name: &str) -> Option<(u32, Option<u32>)> {
    let mut lines = text.lines().map(|l| l.split(':').collect::<Vec<_>>());
    let line = lines.find(|l| l.first() == Some(&name) || l.get(2) == Some(&name))?;
    Some((line.get(2)?.parse().ok()?, line.get(3).and_then(|g| g.parse().ok())))
}

/// Names as useradd(8) takes them ("CAVEATS"); a name stands in paths and in files of lines.
fn check_name(name: &str) -> Result<(), BuildError> {
    let mut chars = name.chars();
    let good = chars.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_')
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c))
        && name.len() <= 32;
    match good {
        true => Ok(()),
        false => Err(BuildError::user(
            format!("`{name}` can not be a user's name"),
            "use up to 32 of a-z, 0-9, `_` and `-`, a letter first",
        )),
    }
}
