"""UpdateFeatures, and the features that ApiVersions tells (KIP-584).

Versions: UpdateFeatures 0-2.
Behaviour:
    * a feature is here or it is not: each has one level, so there is nothing to finalize or to
      keep. A request for the level that is finalized succeeds, everything else is refused with
      INVALID_UPDATE_VERSION and Kafka's reason
    * a request succeeds or fails as a whole; what fails is the first feature that is refused
    * clients decide by these levels: a Java producer, for one, uses the transaction protocol of
      KIP-890 if transaction.version is at 2. So a level stands in ``FEATURES`` only if what it
      promises is served; metadata.version is there because tools tell by it which release of Kafka
      a broker behaves like
Version notes:
    v0 one flag for any downgrade · v1 type of upgrade, validate_only · v2 no results of single
    features
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from trio_kafka_net.errors import KafkaError
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages.update_features import (
    UpdateFeaturesRequest,
    UpdateFeaturesResponse,
)

from .context import RequestContext

if TYPE_CHECKING:
    from .registry import KafkaApis


@attrs.frozen
class Feature:
    """A feature of this broker, at its one level."""

    name: str
    level: int


FEATURES: Final = (Feature("metadata.version", 27),)
"""27 is 4.1-IV1, the protocol that the messages are of."""

FEATURES_EPOCH: Final = 1
"""Clients ignore what is not newer than what they know: one more whenever ``FEATURES`` changes."""

_UPGRADE_TYPES: Final = frozenset({1, 2, 3})
_TYPES_SINCE: Final = 1
_NO_RESULTS_SINCE: Final = 2

_FAILURE: Final = (
    "The update failed for all features since the following feature had an error: "
    "Invalid update version {level} for feature {name}. {reason}"
)


def register(apis: KafkaApis) -> None:
    """Serve this family."""
    apis.add(
        update_features,
        key=UpdateFeaturesRequest.API_KEY,
        error_response=_update_features_error,
    )


def update_features(ctx: RequestContext, request: UpdateFeaturesRequest) -> UpdateFeaturesResponse:
    """Check whether features are at the levels that somebody wants.

    Source: Kafka ``FeatureControlManager.updateFeatures`` (4.1).
    """
    names = []
    for update in request.feature_updates:
        reason = _why_not(ctx, update)
        if reason:
            text = _FAILURE.format(
                level=update.max_version_level, name=update.feature, reason=reason
            )
            raise KafkaError(ErrorCode.INVALID_UPDATE_VERSION, text)
        names.append(update.feature)
    if ctx.api_version >= _NO_RESULTS_SINCE:
        names = []
    return UpdateFeaturesResponse(
        error_message=None,
        results=[
            UpdateFeaturesResponse.UpdatableFeatureResult(feature=name, error_message="NONE")
            for name in dict.fromkeys(names)
        ],
    )


def _why_not(ctx: RequestContext, update: UpdateFeaturesRequest.FeatureUpdateKey) -> str:
    """Why an update is refused; empty if it is not."""
    level = update.max_version_level
    if ctx.api_version >= _TYPES_SINCE and update.upgrade_type not in _UPGRADE_TYPES:
        return "The controller does not support the given upgrade type."
    if level < 0:
        return "A feature version cannot be less than 0."
    only = next((each.level for each in FEATURES if each.name == update.feature), 0)
    if not only:
        if level:
            return f"Local controller {ctx.broker.node_id} does not support this feature."
        return f"Feature {update.feature} not found."
    if level != only:
        return f"Local controller {ctx.broker.node_id} only supports versions {only}-{only}"
    return ""


def _update_features_error(
    request: UpdateFeaturesRequest, code: ErrorCode, text: str | None
) -> UpdateFeaturesResponse:
    return UpdateFeaturesResponse(error_code=code, error_message=text)
