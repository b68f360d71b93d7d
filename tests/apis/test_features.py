"""UpdateFeatures; what ApiVersions tells of features is in test_cluster. The texts are Kafka's."""

import pytest

from trio_kafka_net.apis.features import FEATURES, FEATURES_EPOCH, Feature
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import UpdateFeaturesRequest

PREFIX = "The update failed for all features since the following feature had an error: "


def asking(*updates, **settings):
    return UpdateFeaturesRequest(
        feature_updates=[
            UpdateFeaturesRequest.FeatureUpdateKey(feature=name, max_version_level=level, **more)
            for name, level, more in updates
        ],
        **settings,
    )


def test_epoch_is_raised_with_every_change_of_the_features():
    """Clients keep what they know while the epoch stays: whoever changes one changes the other."""
    assert (FEATURES, FEATURES_EPOCH) == ((Feature("metadata.version", 27),), 1)


@pytest.mark.parametrize("version", [0, 1, 2])
async def test_level_that_is_finalized_is_fine(lab, version):
    response = await lab.ask(asking(("metadata.version", 27, {})), version)

    assert (response.error_code, response.error_message) == (0, None)
    # "NONE" is what Kafka puts into the message of a success.
    told = [(each.feature, each.error_code, each.error_message) for each in response.results]
    assert told == ([("metadata.version", 0, "NONE")] if version < 2 else [])


@pytest.mark.parametrize("validate_only", [False, True])
async def test_nothing_asked_nothing_refused(lab, validate_only):
    response = await lab.ask(asking(validate_only=validate_only), 1)

    assert (response.error_code, response.error_message, response.results) == (0, None, [])


REFUSED = {
    "unknown": (("foo", 1, {}), "1 for feature foo. Local controller 1 does not support this "),
    "unknown at 0": (("foo", 0, {}), "0 for feature foo. Feature foo not found."),
    "higher": (
        ("metadata.version", 28, {}),
        "28 for feature metadata.version. Local controller 1 only supports versions 27-27",
    ),
    "lower": (
        ("metadata.version", 26, {"upgrade_type": 3}),
        "26 for feature metadata.version. Local controller 1 only supports versions 27-27",
    ),
    "negative": (
        ("metadata.version", -1, {}),
        "-1 for feature metadata.version. A feature version cannot be less than 0.",
    ),
    "type 0": (
        ("metadata.version", 27, {"upgrade_type": 0}),
        "27 for feature metadata.version. The controller does not support the given upgrade type.",
    ),
    "type 9": (
        ("metadata.version", 27, {"upgrade_type": 9}),
        "27 for feature metadata.version. The controller does not support the given upgrade type.",
    ),
}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("update", "text"), REFUSED.values(), ids=REFUSED)
async def test_everything_else_is_refused_as_a_whole(lab, version, update, text):
    response = await lab.ask(asking(("metadata.version", 27, {}), update), version)

    assert response.error_code == ErrorCode.INVALID_UPDATE_VERSION
    assert response.error_message.startswith(f"{PREFIX}Invalid update version {text}")
    assert response.results == []


async def test_version_0_has_one_flag_for_downgrades(lab):
    response = await lab.ask(asking(("metadata.version", 27, {"allow_downgrade": True})), 0)

    assert response.error_code == 0
