//! Users and groups from an image's own `/etc/passwd` and `/etc/group`, by the rules of `docker run --user`.
//!
//! Owns the reading of those files' text. Pure: bytes in, numbers out; files are read by the caller. Broken lines are
//! skipped, as the C library does.

/// What a process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User ID.
    pub uid: u32,
    /// Group ID.
    pub gid: u32,
    /// Supplementary groups: `gid` first, then others, ascending. As Docker has it since CVE-2022-36109: a program that
    /// changes its group must not lose what files deny to the group it came with.
    pub groups: Vec<u32>,
    /// The user's home directory, `/` for a user that has none.
    pub home: String,
}

/// A user or group that the image does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// No such user.
    #[error("the image has no user {name:?}")]
    UnknownUser {
        /// What was asked for.
        name: String,
    },
    /// No such group.
    #[error("the image has no group {name:?}")]
    UnknownGroup {
        /// What was asked for.
        name: String,
    },
}

impl AccountError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            AccountError::UnknownUser { .. } => {
                "set `user:` to a name in the image's /etc/passwd, or to a number".to_owned()
            }
            AccountError::UnknownGroup { .. } => {
                "set `user:` to `user:group` with a group of the image's /etc/group, or to numbers".to_owned()
            }
        })
    }
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Most supplementary groups: what Linux allows a process.
const GROUPS_MAX: usize = 65_536;

/// Finds out what `wanted` (`""`, `user`, `uid`, `user:group`, ...) means, given the text of both files. A name wins over
/// a number; a number needs no entry. Supplementary groups are those that list the user, unless a group is given.
///
/// # Errors
/// [`AccountError`] for a name that the files do not have.
pub fn resolve(wanted: &str, passwd: &[u8], group: &[u8]) -> Result<Identity, AccountError> {
    let (passwd, group) = (String::from_utf8_lossy(passwd), String::from_utf8_lossy(group));
    let (user_part, group_part) = match wanted.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (wanted, None),
    };
    let user_part = if user_part.is_empty() { "0" } else { user_part };
    let number = parse_id(user_part);
    let user = users(&passwd)
        .find(|user| user.name == user_part)
        .or_else(|| users(&passwd).find(|user| Some(user.uid) == number));
    let Some(uid) = user.as_ref().map(|user| user.uid).or(number) else {
        return Err(AccountError::UnknownUser { name: user_part.to_owned() });
    };
    let home = user.as_ref().map(|user| user.home).filter(|home| home.starts_with('/')).unwrap_or("/");
    let (gid, mut supplementary) = match group_part {
        Some(name) => (find_group(name, &group)?, Vec::new()),
        None => {
            let gid = user.as_ref().map_or(0, |user| user.gid);
            let name = user.as_ref().map_or("", |user| user.name);
            (gid, memberships(name, &group))
        }
    };
    supplementary.retain(|other| *other != gid);
    supplementary.insert(0, gid);
    Ok(Identity { uid, gid, groups: supplementary, home: home.to_owned() })
}

/// The same with further groups, by name or number.
///
/// # Errors
/// [`AccountError`] for a name that the file does not have.
pub fn with_groups(
    mut identity: Identity,
    wanted: &[String],
    group: &[u8],
) -> Result<Identity, AccountError> {
    let file = String::from_utf8_lossy(group);
    for name in wanted {
        let gid = find_group(name, &file)?;
        if !identity.groups.contains(&gid) && identity.groups.len() < GROUPS_MAX {
            identity.groups.push(gid);
        }
    }
    Ok(identity)
}

fn find_group(wanted: &str, file: &str) -> Result<u32, AccountError> {
    groups(file)
        .find(|group| group.name == wanted)
        .map(|group| group.gid)
        .or_else(|| parse_id(wanted))
        .ok_or_else(|| AccountError::UnknownGroup { name: wanted.to_owned() })
}

fn memberships(user: &str, file: &str) -> Vec<u32> {
    let lists = |group: &Group<'_>| !user.is_empty() && group.members.split(',').any(|name| name == user);
    let mut gids: Vec<u32> = groups(file).filter(lists).map(|group| group.gid).take(GROUPS_MAX - 1).collect();
    gids.sort_unstable();
    gids.dedup();
    gids
}

fn users(file: &str) -> impl Iterator<Item = User<'_>> {
    file.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let mut fields = fields.skip(1);
        let (uid, gid) = (parse_id(fields.next()?)?, parse_id(fields.next()?)?);
        let home = fields.nth(1).unwrap_or("");
        Some(User { name, uid, gid, home })
    })
}

fn groups(file: &str) -> impl Iterator<Item = Group<'_>> {
    file.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let gid = parse_id(fields.nth(1)?)?;
        Some(Group { name, gid, members: fields.next().unwrap_or("") })
    })
}

/// A number in decimal; the highest one means "unchanged" to the kernel and is none.
fn parse_id(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| plain && *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{AccountError, Identity, resolve, with_groups};

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
        broken line\n\
        www-data:x:33:33::/var/www:/usr/sbin/nologin\n\
        1000:x:7:8:a name of digits:/seven:\n\
        app:x:1000:1000::relative:\n\
        nohome:x:1001:1001";
    const GROUP: &str =
        "root:x:0:\nadm:x:4:www-data,app\nwww-data:x:33:\nssl:x:101:app\nbad\nwheel:x:10:root\n";

    fn check(wanted: &str, expect: Result<(u32, u32, &[u32], &str), AccountError>) {
        let expect = expect.map(|(uid, gid, groups, home)| Identity {
            uid,
            gid,
            groups: groups.to_vec(),
            home: home.to_owned(),
        });
        assert_eq!(resolve(wanted, PASSWD.as_bytes(), GROUP.as_bytes()), expect, "{wanted:?}");
    }

    #[test]
    fn further_groups_come_last_and_once() {
        let identity = || resolve("app", PASSWD.as_bytes(), GROUP.as_bytes()).unwrap();
        let with = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            with_groups(identity(), &names, GROUP.as_bytes()).map(|identity| identity.groups)
        };
        assert_eq!(with(&["wheel", "adm", "44"]).unwrap(), [1000, 4, 101, 10, 44]);
        assert_eq!(with(&["video"]), Err(AccountError::UnknownGroup { name: "video".to_owned() }));
    }

    #[test]
    fn names_and_numbers() {
        check("", Ok((0, 0, &[0, 10], "/root")));
        check("root", Ok((0, 0, &[0, 10], "/root")));
        check("0", Ok((0, 0, &[0, 10], "/root")));
        check("www-data", Ok((33, 33, &[33, 4], "/var/www")));
        check("33", Ok((33, 33, &[33, 4], "/var/www")));
        check("app", Ok((1000, 1000, &[1000, 4, 101], "/")));
        check("nohome", Ok((1001, 1001, &[1001], "/")));
        check("1000", Ok((7, 8, &[8], "/seven")));
        check("4242", Ok((4242, 0, &[0], "/")));
        check("app:adm", Ok((1000, 4, &[4], "/")));
        check("app:77", Ok((1000, 77, &[77], "/")));
        check(":ssl", Ok((0, 101, &[101], "/root")));
        check("app:", Ok((1000, 1000, &[1000, 4, 101], "/")));
    }

    #[test]
    fn unknown_names() {
        check("nobody", Err(AccountError::UnknownUser { name: "nobody".into() }));
        check("app:nogroup", Err(AccountError::UnknownGroup { name: "nogroup".into() }));
        check("-1", Err(AccountError::UnknownUser { name: "-1".into() }));
        check("+1", Err(AccountError::UnknownUser { name: "+1".into() }));
        check("4294967295", Err(AccountError::UnknownUser { name: "4294967295".into() }));
    }

    #[test]
    fn an_image_without_files() {
        let identity = resolve("5:6", b"", b"").unwrap();
        assert_eq!((identity.uid, identity.gid, identity.home.as_str()), (5, 6, "/"));
        assert!(resolve("root", b"", b"").is_err());
        assert_eq!(resolve("", b"\xff\xfe:::\n", b"\xff").unwrap().uid, 0);
    }
}
