"""Short ways to describe and change settings through requests."""

from __future__ import annotations

from trio_kafka_net.protocol.messages import (
    AlterConfigsRequest,
    DescribeConfigsRequest,
    IncrementalAlterConfigsRequest,
)

TOPIC, BROKER, LOGGER, METRICS, GROUP = 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = range(4)


async def describe(lab, *resources, version=4, plane="data", documentation=False, keys=None):
    """The results for resources given as (type, name)."""
    request = DescribeConfigsRequest(
        resources=[
            DescribeConfigsRequest.Resource(
                resource_type=kind, resource_name=name, configuration_keys=keys
            )
            for kind, name in resources
        ],
        include_synonyms=True,
        include_documentation=documentation,
    )
    return (await lab.ask(request, version, plane=plane)).results


async def entries(lab, kind, name, **settings):
    """{setting: what is said about it} of one resource."""
    (result,) = await describe(lab, (kind, name), **settings)
    assert (result.error_code, result.error_message) == (0, "")
    return {entry.name: entry for entry in result.configs}


async def values(lab, kind, name, source):
    """{setting: value} of one resource, those that one source says."""
    found = (await entries(lab, kind, name)).values()
    return {entry.name: entry.value for entry in found if entry.config_source == source}


def operation(name, kind, value=None):
    return IncrementalAlterConfigsRequest.AlterableConfig(
        name=name, config_operation=kind, value=value
    )


def setting(**texts):
    """Operations that set keys, written with underscores for dots."""
    return [operation(name.replace("_", "."), SET, text) for name, text in texts.items()]


async def change(lab, *resources, version=1, plane="data", validate_only=False):
    """(code, text) for each resource given as (type, name, operations)."""
    request = IncrementalAlterConfigsRequest(
        resources=[
            IncrementalAlterConfigsRequest.AlterConfigsResource(
                resource_type=kind, resource_name=name, configs=operations
            )
            for kind, name, operations in resources
        ],
        validate_only=validate_only,
    )
    response = await lab.ask(request, version, plane=plane)
    told = [(each.resource_type, each.resource_name) for each in response.responses]
    assert told == [(kind, name) for kind, name, _ in resources]
    return [(each.error_code, each.error_message) for each in response.responses]


async def replace(lab, *resources, version=2, plane="data", validate_only=False):
    """(code, text) for each resource given as (type, name, {key: value})."""
    request = AlterConfigsRequest(
        resources=[
            AlterConfigsRequest.Resource(
                resource_type=kind,
                resource_name=name,
                configs=[
                    AlterConfigsRequest.AlterableConfig(name=key, value=value)
                    for key, value in texts.items()
                ],
            )
            for kind, name, texts in resources
        ],
        validate_only=validate_only,
    )
    response = await lab.ask(request, version, plane=plane)
    return [(each.error_code, each.error_message) for each in response.responses]
