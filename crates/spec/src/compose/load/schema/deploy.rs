//! The form of `deploy`.
//!
//! Owns its vocabulary. Fields are sorted by name. Must not say what any of it means.

use super::super::shape::{MapShape, Shape};
use super::{NUMBER_OR_TEXT, PAIRS, TEXT_ONLY, TEXTS, TEXTS_UNIQUE, WHOLE_OR_TEXT};

pub(super) static DEPLOY: MapShape = MapShape {
    noun: "`deploy`",
    fields: &[
        ("endpoint_mode", TEXT_ONLY),
        ("labels", PAIRS),
        ("mode", TEXT_ONLY),
        ("placement", Shape::map(&PLACEMENT)),
        ("replicas", WHOLE_OR_TEXT),
        ("resources", Shape::map(&RESOURCES)),
        ("restart_policy", Shape::map(&RESTART_POLICY)),
        ("rollback_config", Shape::map(&UPDATE)),
        ("update_config", Shape::map(&UPDATE)),
    ],
    others: None,
    required: &[],
    has_extensions: true,
};

static UPDATE: MapShape = MapShape {
    noun: "an update policy",
    fields: &[
        ("delay", TEXT_ONLY),
        ("failure_action", TEXT_ONLY),
        ("max_failure_ratio", NUMBER_OR_TEXT),
        ("monitor", TEXT_ONLY),
        ("order", Shape::words(&["start-first", "stop-first"])),
        ("parallelism", WHOLE_OR_TEXT),
    ],
    others: None,
    required: &[],
    has_extensions: true,
};

static RESOURCES: MapShape = MapShape {
    noun: "`resources`",
    fields: &[("limits", Shape::map(&LIMITS)), ("reservations", Shape::map(&RESERVATIONS))],
    others: None,
    required: &[],
    has_extensions: true,
};

static LIMITS: MapShape = MapShape {
    noun: "`limits`",
    fields: &[("cpus", NUMBER_OR_TEXT), ("memory", TEXT_ONLY), ("pids", WHOLE_OR_TEXT)],
    others: None,
    required: &[],
    has_extensions: true,
};

static RESERVATIONS: MapShape = MapShape {
    noun: "`reservations`",
    fields: &[
        ("cpus", NUMBER_OR_TEXT),
        ("devices", Shape::list(&DEVICE_REQUEST)),
        ("generic_resources", Shape::list(&GENERIC_RESOURCE)),
        ("memory", TEXT_ONLY),
    ],
    others: None,
    required: &[],
    has_extensions: true,
};

static GENERIC_RESOURCE: Shape = Shape::map(&GENERIC_RESOURCE_MAP);

static GENERIC_RESOURCE_MAP: MapShape = MapShape {
    noun: "a generic resource",
    fields: &[("discrete_resource_spec", Shape::map(&DISCRETE))],
    others: None,
    required: &[],
    has_extensions: true,
};

static DISCRETE: MapShape = MapShape {
    noun: "`discrete_resource_spec`",
    fields: &[("kind", TEXT_ONLY), ("value", NUMBER_OR_TEXT)],
    others: None,
    required: &[],
    has_extensions: true,
};

static DEVICE_REQUEST: Shape = Shape::map(&DEVICE_REQUEST_MAP);

static DEVICE_REQUEST_MAP: MapShape = MapShape {
    noun: "a device request",
    fields: &[
        ("capabilities", TEXTS_UNIQUE),
        ("count", WHOLE_OR_TEXT),
        ("device_ids", TEXTS_UNIQUE),
        ("driver", TEXT_ONLY),
        ("options", PAIRS),
    ],
    others: None,
    required: &["capabilities"],
    has_extensions: true,
};

static RESTART_POLICY: MapShape = MapShape {
    noun: "`restart_policy`",
    fields: &[
        ("condition", TEXT_ONLY),
        ("delay", TEXT_ONLY),
        ("max_attempts", WHOLE_OR_TEXT),
        ("window", TEXT_ONLY),
    ],
    others: None,
    required: &[],
    has_extensions: true,
};

static PLACEMENT: MapShape = MapShape {
    noun: "`placement`",
    fields: &[
        ("constraints", TEXTS),
        ("max_replicas_per_node", WHOLE_OR_TEXT),
        ("preferences", Shape::list(&PREFERENCE)),
    ],
    others: None,
    required: &[],
    has_extensions: true,
};

static PREFERENCE: Shape = Shape::map(&PREFERENCE_MAP);

static PREFERENCE_MAP: MapShape = MapShape {
    noun: "a placement preference",
    fields: &[("spread", TEXT_ONLY)],
    others: None,
    required: &[],
    has_extensions: true,
};
