//! Names that people write and the identifiers made of them.
//!
//! Every name is a DNS label, so that it can later be resolved as one, and so that identifiers can be joined with dots
//! without ambiguity. Two kinds of name are two types: swapping them does not compile.

use std::fmt;
use std::str::FromStr;

/// Longest name: the limit of a DNS label (RFC 1035, section 2.3.4).
pub const NAME_BYTES_MAX: usize = 63;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a name cannot be empty")]
    Empty,
    /// The text is longer than a DNS label.
    #[error("the name is {length} characters long; the limit is {NAME_BYTES_MAX}")]
    TooLong {
        /// Length in bytes.
        length: usize,
    },
    /// A character outside a–z, 0–9 and `-`, or a `-` at an end.
    #[error("\"{name}\" is not a name: use a-z, 0-9 and \"-\", starting and ending with a letter or digit")]
    BadCharacter {
        /// The refused text.
        name: String,
    },
    /// A character that no name of a secret or config holds.
    #[error(
        "\"{name}\" is not a name: use letters, digits, \"_\", \".\" and \"-\", starting with a letter, a digit or \"_\""
    )]
    BadFileName {
        /// The refused text.
        name: String,
    },
    /// An identifier does not have the parts it should.
    #[error("\"{text}\" is not an identifier of the form {form}")]
    BadIdentifier {
        /// The refused text.
        text: String,
        /// The expected form.
        form: &'static str,
    },
}

/// Checks that `text` is a DNS label in lower case.
///
/// # Errors
/// Says which rule the text breaks.
pub fn check_label(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong { length: text.len() });
    }
    let bytes = text.as_bytes();
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let inside = bytes.iter().all(|&byte| word(byte) || byte == b'-');
    if !inside || !word(bytes[0]) || !word(bytes[bytes.len() - 1]) {
        return Err(NameError::BadCharacter { name: text.to_owned() });
    }
    Ok(())
}

/// The nearest DNS label to an arbitrary text, for "did you mean" hints; `None` when nothing of it is usable.
#[must_use]
pub fn nearest_label(text: &str) -> Option<String> {
    let mapped: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let cut: String = mapped.trim_matches('-').chars().take(NAME_BYTES_MAX).collect();
    let label = cut.trim_end_matches('-');
    (!label.is_empty()).then(|| label.to_owned())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                check_label(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// Name of a job: what one file declares.
    JobName
);
name_type!(
    /// Name of a group within its job: what is placed on one node as a unit.
    GroupName
);
name_type!(
    /// Name of a task within its group: one image in one microVM.
    TaskName
);
name_type!(
    /// Name of a node.
    NodeName
);
name_type!(
    /// Name of a volume within its job.
    VolumeName
);
name_type!(
    /// Name of a pool: a folder that nodes offer for volumes.
    PoolName
);

/// Name of a secret or config within its job. No DNS label, for apps look for a file of just this name: letters, digits,
/// `_`, `.` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(String);

impl FileName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FileName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong { length: text.len() });
        }
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let inside = text.bytes().all(|byte| is_word(byte) || byte == b'-' || byte == b'.');
        if !inside || !text.bytes().next().is_some_and(is_word) {
            return Err(NameError::BadFileName { name: text.to_owned() });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One placed instance of a group: `job.group.index`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AllocId {
    /// The job.
    pub job: JobName,
    /// The group in it.
    pub group: GroupName,
    /// Which of the group's `count` instances, from 0.
    pub index: u32,
}

impl fmt::Display for AllocId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.job, self.group, self.index)
    }
}

impl FromStr for AllocId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad = || NameError::BadIdentifier { text: text.to_owned(), form: "job.group.index" };
        let mut parts = text.split('.');
        let (Some(job), Some(group), Some(index), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        let number: u32 = index.parse().map_err(|_| bad())?;
        if number.to_string() != index {
            return Err(bad());
        }
        Ok(Self { job: job.parse()?, group: group.parse()?, index: number })
    }
}

/// The disk of a volume, one for each instance of the group that mounts it: `job.volume.index`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeId {
    /// The job.
    pub job: JobName,
    /// The volume in it.
    pub volume: VolumeName,
    /// The index of the alloc that it belongs to.
    pub index: u32,
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.job, self.volume, self.index)
    }
}

impl FromStr for VolumeId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let form = "job.volume.index";
        // The same form, with a volume in the place of the group.
        let AllocId { job, group, index } = text.parse().map_err(|error| match error {
            NameError::BadIdentifier { text, .. } => NameError::BadIdentifier { text, form },
            other @ (NameError::Empty
            | NameError::TooLong { .. }
            | NameError::BadCharacter { .. }
            | NameError::BadFileName { .. }) => other,
        })?;
        Ok(Self { job, volume: VolumeName(group.0), index })
    }
}

/// One task of one alloc: `job.group.index.task`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    /// The alloc.
    pub alloc: AllocId,
    /// The task in its group.
    pub task: TaskName,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.alloc, self.task)
    }
}

impl FromStr for TaskId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (alloc, task) = text.rsplit_once('.').ok_or_else(|| NameError::BadIdentifier {
            text: text.to_owned(),
            form: "job.group.index.task",
        })?;
        Ok(Self { alloc: alloc.parse()?, task: task.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        for good in ["a", "web", "web-1", "0", &"x".repeat(63)] {
            assert_eq!(check_label(good), Ok(()), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "é", "a b", &"x".repeat(64), "../x"] {
            assert!(check_label(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_name() {
        let why = |text: &str| check_label(text).unwrap_err().to_string();
        assert_eq!(why(""), "a name cannot be empty");
        assert_eq!(why(&"x".repeat(64)), "the name is 64 characters long; the limit is 63");
        assert_eq!(
            why("My App"),
            "\"My App\" is not a name: use a-z, 0-9 and \"-\", starting and ending with a letter or digit"
        );
        assert_eq!(
            ".env".parse::<FileName>().unwrap_err().to_string(),
            "\".env\" is not a name: use letters, digits, \"_\", \".\" and \"-\", starting with a letter, a digit or \"_\""
        );
    }

    #[test]
    fn nearest() {
        assert_eq!(nearest_label("My App").as_deref(), Some("my-app"));
        assert_eq!(nearest_label("_x_").as_deref(), Some("x"));
        assert_eq!(nearest_label("___"), None);
    }

    #[test]
    fn identifiers_round_trip() {
        let id: TaskId = "shop.main.0.web".parse().unwrap();
        assert_eq!(id.alloc.index, 0);
        assert_eq!(id.to_string(), "shop.main.0.web");
        let volume: VolumeId = "shop.data.3".parse().unwrap();
        assert_eq!((volume.to_string().as_str(), volume.index), ("shop.data.3", 3));
        assert_eq!(
            "shop.data".parse::<VolumeId>().unwrap_err().to_string(),
            "\"shop.data\" is not an identifier of the form job.volume.index"
        );
        for bad in ["shop.main.0", "shop.main.x.web", "shop.main.00.web", "a.b.0.c.d", ""] {
            assert!(bad.parse::<TaskId>().is_err(), "{bad}");
        }
    }
}
