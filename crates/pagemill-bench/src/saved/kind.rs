//! Kinds of reports: where each has its rows, what identifies a row, and which figures it has.

use super::figure::Better;

/// A kind of report.
#[derive(Debug)]
pub(super) struct Kind {
    /// The value of `command`.
    pub(super) command: &'static str,
    /// The schema that is read.
    pub(super) schema_version: u64,
    /// The field with the number of runs, for tables whose rows do not have it.
    pub(super) runs: &'static str,
    /// The tables.
    pub(super) tables: &'static [TableKind],
    /// Other fields that are results, not circumstances.
    pub(super) results: &'static [&'static str],
}

/// A table of a report.
#[derive(Debug)]
pub(super) struct TableKind {
    /// The array of rows; the last of `path`.
    pub(super) name: &'static str,
    /// Arrays from the document to the row.
    pub(super) path: &'static [&'static str],
    /// Fields that identify a row, in it or in the objects around it.
    pub(super) keys: &'static [&'static str],
    /// The figures.
    pub(super) figures: &'static [FigureKind],
}

/// A figure of each row of a table.
#[derive(Debug)]
pub(super) struct FigureKind {
    /// Its field in the row; dots separate names of nested objects.
    pub(super) name: &'static str,
    /// Its unit; empty if the row has a field `unit`, which also gives the direction.
    pub(super) unit: &'static str,
    /// Its direction.
    pub(super) better: Better,
    /// Where its values are.
    pub(super) form: Form,
}

/// Where the values of a figure are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `NAME`, `NAME_min`, `NAME_max`, `NAME_samples`.
    Flat,
    /// An object with `median`, `min`, `max`, `samples`.
    Nested,
    /// `median`, `min`, `max`, `nr`, `samples` of the row itself.
    Row,
    /// One value.
    Once,
    /// One value that does not depend on time.
    Exact,
}

const fn flat(name: &'static str, unit: &'static str) -> FigureKind {
    FigureKind { name, unit, better: Better::Lower, form: Form::Flat }
}

const fn nested(name: &'static str, unit: &'static str, better: Better) -> FigureKind {
    FigureKind { name, unit, better, form: Form::Nested }
}

const fn once(name: &'static str, unit: &'static str) -> FigureKind {
    FigureKind { name, unit, better: Better::Lower, form: Form::Once }
}

const fn blocks(name: &'static str) -> FigureKind {
    FigureKind { name, unit: "blocks", better: Better::Higher, form: Form::Exact }
}

const ROWS: &[&str] = &["rows"];

/// All kinds that are read.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        command: "bench bulk",
        schema_version: 1,
        runs: "runs",
        tables: &[
            TableKind {
                name: "rows",
                path: ROWS,
                keys: &["shape", "op", "n", "threads"],
                figures: &[
                    flat("alloc_ns", "ns/page"),
                    flat("free_ns", "ns/page"),
                    flat("both_ns", "ns/page"),
                ],
            },
            TableKind {
                name: "limit",
                path: &["limit"],
                keys: &["n"],
                figures: &[flat("ns", "ns/page")],
            },
        ],
        results: &[],
    },
    Kind {
        command: "bench frag",
        schema_version: 1,
        runs: "",
        tables: &[TableKind {
            name: "steps",
            path: &["lives", "steps"],
            keys: &["kinds", "step", "round"],
            figures: &[
                blocks("blocks_2m_best"),
                blocks("blocks_2m_whole"),
                blocks("blocks_2m_allocated"),
            ],
        }],
        results: &[],
    },
    Kind {
        command: "bench latency",
        schema_version: 1,
        runs: "",
        tables: &[TableKind {
            name: "rows",
            path: ROWS,
            keys: &["company"],
            figures: &[
                once("single.p50_ns", "ns"),
                once("single.p99_ns", "ns"),
                once("single.p999_ns", "ns"),
                once("single.max_ns", "ns"),
                once("locked.p50_ns", "ns"),
                once("locked.p99_ns", "ns"),
                once("locked.p999_ns", "ns"),
                once("locked.max_ns", "ns"),
                once("locked_calm_max_ns", "ns"),
                once("zone_holds.p50_ns", "ns"),
                once("zone_holds.p99_ns", "ns"),
                once("zone_holds.p999_ns", "ns"),
                once("zone_holds.max_ns", "ns"),
                once("zone_holds.calm_max_ns", "ns"),
                once("lists_holds.p50_ns", "ns"),
                once("lists_holds.p99_ns", "ns"),
                once("lists_holds.p999_ns", "ns"),
                once("lists_holds.max_ns", "ns"),
                once("lists_holds.calm_max_ns", "ns"),
                once("hog_call_ns", "ns"),
            ],
        }],
        results: &["quiet_gap_ns"],
    },
    Kind {
        command: "bench nfs",
        schema_version: 1,
        runs: "rounds",
        tables: &[TableKind {
            name: "rows",
            path: ROWS,
            keys: &["load", "server"],
            figures: &[
                nested("calls_per_s", "calls/s", Better::Higher),
                nested("mib_per_s", "MiB/s", Better::Higher),
                nested("cpu_us_per_call", "us/call", Better::Lower),
                nested("cpu_s_per_gib", "s/GiB", Better::Lower),
                once("peak_mib", "MiB"),
                once("latency_us.p50", "us"),
                once("latency_us.p99", "us"),
                once("latency_us.p999", "us"),
                once("latency_us.max", "us"),
            ],
        }],
        results: &[],
    },
    Kind {
        command: "bench peers",
        schema_version: 1,
        runs: "",
        tables: &[TableKind {
            name: "rows",
            path: ROWS,
            keys: &["scenario", "peer", "n", "what", "unit"],
            figures: &[FigureKind {
                name: "median",
                unit: "",
                better: Better::Lower,
                form: Form::Row,
            }],
        }],
        results: &["peers", "load"],
    },
    Kind {
        command: "bench pool",
        schema_version: 1,
        runs: "runs",
        tables: &[
            TableKind {
                name: "rows",
                path: ROWS,
                keys: &["packets", "work_ns", "way"],
                figures: &[nested("ns", "ns/packet", Better::Lower)],
            },
            TableKind {
                name: "paths",
                path: &["paths"],
                keys: &["path", "returned_at_once"],
                figures: &[nested("ns", "ns/page", Better::Lower)],
            },
        ],
        results: &["gains", "packet_ns_at_5_percent"],
    },
    Kind {
        command: "bench rpc",
        schema_version: 1,
        runs: "runs",
        tables: &[TableKind {
            name: "rows",
            path: ROWS,
            keys: &["consumed", "calls", "hint"],
            figures: &[nested("us", "us/refill", Better::Lower)],
        }],
        results: &[],
    },
    Kind {
        command: "bench users",
        schema_version: 1,
        runs: "runs",
        tables: &[TableKind {
            name: "rows",
            path: ROWS,
            keys: &["user", "arm"],
            figures: &[
                nested("cpu_ns", "ns/operation", Better::Lower),
                nested("alloc_ns", "ns/operation", Better::Lower),
                nested("per_s", "operations/s", Better::Higher),
            ],
        }],
        results: &["gains", "held", "skipped"],
    },
];
