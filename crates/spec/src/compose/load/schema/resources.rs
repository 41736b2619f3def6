//! The form of what services share: networks, volumes, secrets, configs and models.
//!
//! Owns their vocabulary. Fields are sorted by name. Must not say what any of it means.

use super::super::shape::{MapShape, NULL, Names, Shape, TEXT, TRUTH, WHOLE};
use super::{OPTIONS, PAIRS, SWITCH, TEXT_ONLY, TEXTS, table};

static EXTERNAL: MapShape = MapShape {
    noun: "`external`",
    fields: &[("name", TEXT_ONLY)],
    others: None,
    required: &[],
    has_extensions: true,
};

pub(super) static NETWORK_SHAPE: Shape = Shape::map(&NETWORK).or(NULL);

static NETWORK: MapShape = MapShape {
    noun: "a network",
    fields: &[
        ("attachable", SWITCH),
        ("driver", TEXT_ONLY),
        ("driver_opts", OPTIONS),
        ("enable_ipv4", SWITCH),
        ("enable_ipv6", SWITCH),
        ("external", Shape::map(&EXTERNAL).or(TRUTH | TEXT)),
        ("internal", SWITCH),
        ("ipam", Shape::map(&IPAM)),
        ("labels", PAIRS),
        ("name", TEXT_ONLY),
    ],
    others: None,
    required: &[],
    has_extensions: true,
};

static IPAM: MapShape = MapShape {
    noun: "`ipam`",
    fields: &[
        ("config", Shape::list(&IPAM_CONFIG)),
        ("driver", TEXT_ONLY),
        ("options", Shape::map(&TEXT_MAP)),
    ],
    others: None,
    required: &[],
    has_extensions: true,
};

static TEXT_MAP: MapShape = table("a list of options", Names::Any, &TEXT_ONLY);

static IPAM_CONFIG: Shape = Shape::map(&IPAM_CONFIG_MAP);

static IPAM_CONFIG_MAP: MapShape = MapShape {
    noun: "an item of `config`",
    fields: &[
        ("aux_addresses", Shape::map(&TEXT_MAP)),
        ("gateway", TEXT_ONLY),
        ("ip_range", TEXT_ONLY),
        ("subnet", TEXT_ONLY),
    ],
    others: None,
    required: &[],
    has_extensions: true,
};

pub(super) static VOLUME_SHAPE: Shape = Shape::map(&VOLUME).or(NULL);

static VOLUME: MapShape = MapShape {
    noun: "a volume",
    fields: &[
        ("driver", TEXT_ONLY),
        ("driver_opts", OPTIONS),
        ("external", Shape::map(&EXTERNAL).or(TRUTH | TEXT)),
        ("labels", PAIRS),
        ("name", TEXT_ONLY),
    ],
    others: None,
    required: &[],
    has_extensions: true,
};

pub(super) static SECRET_SHAPE: Shape = Shape::map(&SECRET);

static SECRET: MapShape = MapShape {
    noun: "a secret",
    fields: &[
        ("driver", TEXT_ONLY),
        ("driver_opts", OPTIONS),
        ("environment", TEXT_ONLY),
        ("external", Shape::map(&EXTERNAL).or(TRUTH | TEXT)),
        ("file", TEXT_ONLY),
        ("labels", PAIRS),
        ("name", TEXT_ONLY),
        ("template_driver", TEXT_ONLY),
    ],
    others: None,
    required: &[],
    has_extensions: true,
};

pub(super) static CONFIG_SHAPE: Shape = Shape::map(&CONFIG);

static CONFIG: MapShape = MapShape {
    noun: "a config",
    fields: &[
        ("content", TEXT_ONLY),
        ("environment", TEXT_ONLY),
        ("external", Shape::map(&EXTERNAL).or(TRUTH | TEXT)),
        ("file", TEXT_ONLY),
        ("labels", PAIRS),
        ("name", TEXT_ONLY),
        ("template_driver", TEXT_ONLY),
    ],
    others: None,
    required: &[],
    has_extensions: true,
};

pub(super) static MODEL_SHAPE: Shape = Shape::map(&MODEL);

static MODEL: MapShape = MapShape {
    noun: "a model",
    fields: &[
        ("context_size", Shape::scalar(WHOLE)),
        ("model", TEXT_ONLY),
        ("name", TEXT_ONLY),
        ("runtime_flags", TEXTS),
    ],
    others: None,
    required: &["model"],
    has_extensions: true,
};
