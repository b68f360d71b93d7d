"""Servers that say anything at all."""

from hypothesis import strategies as st

from trio_kafka_net.metrics import names
from trio_kafka_net.monitor.snapshot import Snapshot
from trio_kafka_net.monitor.ui_state import KEY_NAMES

# Escape sequences, wide and combining characters, marks that turn the direction of writing.
nasty = st.sampled_from(
    [
        "\x1b[31mred\x1b[0m",
        "\x1b]0;title\x07",
        "漢字トピック",
        "e\u0301\u0301",
        "\u202eabc",
        "a\nb\rc",
        "\x00",
        "🦀🦀🦀",
        "",
        "x" * 300,
        '"}{,=\\',
        "__consumer_offsets",
        "\ud800",
        "\u200b",
    ]
)
texts = st.one_of(nasty, st.text(max_size=12))
usual_labels = st.sampled_from(
    [
        "data",
        "control",
        "0",
        "1",
        "Produce",
        "FetchConsumer",
        "Fetch",
        "orders",
        "living",
        "all",
        "idle",
        "running",
        "total",
        "remote",
        "PreparingRebalance",
        "UNKNOWN_SERVER_ERROR",
        "NONE",
        "0.1",
        "0.5",
        "+Inf",
        "NaN",
        "-1",
    ]
)
numbers = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-(10**30), 10**30).map(float),
    st.floats(0, 1),
    st.integers(0, 1000).map(float),
)


@st.composite
def families(draw, metrics=names.CATALOGUE):
    """{name: {labels: number}} of some metrics."""
    samples = {}
    for metric in draw(st.lists(st.sampled_from(metrics), max_size=8, unique=True)):
        kinds = [metric.name]
        labels = metric.labels
        if metric.kind == "histogram":
            kinds = [f"{metric.name}_sum", f"{metric.name}_count", f"{metric.name}_bucket"]
        for name in kinds:
            extra = ("le",) if name.endswith("_bucket") else ()
            some = draw(st.integers(1, 3))
            samples[name] = {
                tuple(
                    (label, draw(st.one_of(usual_labels, texts)))
                    for label in (*labels, *extra)
                    if draw(st.integers(0, 9))
                ): draw(numbers)
                for _ in range(some)
            }
    return samples


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.integers(), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=4,
)
FIELDS = [
    "id",
    "client_id",
    "software",
    "software_version",
    "principal",
    "remote",
    "listener",
    "plane",
    "processor",
    "state",
    "api",
    "api_age_s",
    "in_per_s",
    "out_per_s",
    "bytes_in",
    "bytes_out",
    "idle_s",
    "age_s",
    "time",
    "level",
    "logger",
    "message",
    "name",
    "used",
    "capacity",
    "in_s",
    "waits_on",
    "children",
    "partition",
    "leader",
    "size",
    "last_error",
    "group",
    "protocol",
    "members",
    "generation",
    "assignor",
    "state_s",
    "lag",
    "max_lag",
    "committed",
    "log_end",
    "topic",
    "member_id",
]
rows = st.one_of(
    json_values, st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=len(FIELDS))
)
LISTS = [
    "connections",
    "records",
    "partitions",
    "groups",
    "member_list",
    "channels",
    "deadlines",
    "children",
]
documents = st.dictionaries(
    st.sampled_from(["connections", "tasks", "log", "topic", "groups", "group"]),
    st.one_of(
        json_values,
        st.fixed_dictionaries(
            {},
            optional={
                **dict.fromkeys(LISTS, st.lists(rows, max_size=2)),
                **dict.fromkeys(["threads", "tree", "roles", "total", "topic", "group"], rows),
            },
        ),
    ),
    max_size=6,
)


@st.composite
def snapshots(draw):
    """Some snapshots in the order of their moments, mostly."""
    found = []
    taken = draw(st.floats(-1e6, 1e6))
    samples = draw(families())
    for _ in range(draw(st.integers(0, 3))):
        taken += draw(st.sampled_from([0.0, 0.5, 1.0, 1.0, 1.0, 30.0, 1e6, -5.0]))
        if draw(st.booleans()):
            samples = {
                name: {labels: draw(numbers) for labels in family}
                for name, family in samples.items()
            }
        else:
            samples = draw(families())
        time = draw(numbers)
        found.append(Snapshot(time, taken, samples, draw(documents)))
    return found


keys = st.one_of(
    st.sampled_from(sorted(KEY_NAMES)),
    st.sampled_from("0123456789/!<>rp+-uwtsSLq?jkAEN"),
    st.characters(),
)
