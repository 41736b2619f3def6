//! The stored form of a job, and the forms that came before it.
//!
//! The specification is kept in the wire form that the person sent, the rest beside it. Each form has a number; every
//! older one stays readable.

use std::collections::BTreeMap;

use lith_api::job::{JobError, JobSpec};
use lith_core::deploy::{Desire, Job};
use lith_core::name::NameError;
use lith_core::task::Incarnation;
use serde::{Deserialize, Serialize};

/// The form that is written.
const FORM: u32 = 1;

/// Why a stored row cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum FormError {
    /// Written by a newer lith.
    #[error("form {form} is newer than this version of lith knows")]
    TooNew {
        /// Its number.
        form: u32,
    },
    /// Not the JSON that it should be.
    #[error("it is not valid JSON of its form")]
    Json(#[source] serde_json::Error),
    /// A job that is not valid.
    #[error("its job is not valid")]
    Job(#[source] JobError),
    /// A number that no task has.
    #[error("{number} is not the number of a task")]
    Number {
        /// The number.
        number: u16,
    },
    /// A name that is not valid.
    #[error("a name in it is not valid")]
    Name(#[source] NameError),
}

#[derive(Serialize, Deserialize)]
struct Form1 {
    spec: JobSpec,
    /// Group → task → what is wanted.
    desires: BTreeMap<String, BTreeMap<String, Desire1>>,
}

#[derive(Serialize, Deserialize)]
struct Desire1 {
    incarnation: u64,
    run: bool,
}

/// The number of the form, and the text.
pub(crate) fn encode(job: &Job) -> (u32, String) {
    let mut desires: BTreeMap<String, BTreeMap<String, Desire1>> = BTreeMap::new();
    for ((group, task), desire) in &job.desires {
        let desire = Desire1 { incarnation: desire.incarnation.0, run: desire.run };
        desires.entry(group.to_string()).or_default().insert(task.to_string(), desire);
    }
    let form = Form1 { spec: JobSpec::from(&job.spec), desires };
    (FORM, serde_json::to_string(&form).expect("maps with text keys always encode"))
}

/// The job in a text of this form.
pub(crate) fn decode(form: u32, body: &str, version: u64) -> Result<Job, FormError> {
    if form > FORM {
        return Err(FormError::TooNew { form });
    }
    let Form1 { spec, desires } = serde_json::from_str(body).map_err(FormError::Json)?;
    let spec = (&spec).try_into().map_err(FormError::Job)?;
    let mut wanted = BTreeMap::new();
    for (group, tasks) in desires {
        for (task, desire) in tasks {
            let key = (group.parse().map_err(FormError::Name)?, task.parse().map_err(FormError::Name)?);
            wanted.insert(key, Desire { incarnation: Incarnation(desire.incarnation), run: desire.run });
        }
    }
    Ok(Job { spec, version, desires: wanted })
}
