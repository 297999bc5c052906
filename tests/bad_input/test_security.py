"""Brokers that want a user or TLS: with the right settings all works, with others the error says what to set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import Certificates, certificates
from clicks import append, clicks, numbers, run, topic
from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion
from distributed import Client

import microstream as ms
from microstream.testing.kafka import Broker, NoBrokerError

pytestmark = pytest.mark.broker

LOGIN = "org.apache.kafka.common.security.{}LoginModule required {};"
SECRET = "not-to-be-told"
USER = {"sasl.username": "ann", "sasl.password": SECRET}


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def guarded(papers: Certificates) -> Iterator[Broker]:
    """A broker with a port for each security protocol; ann is known by PLAIN and by SCRAM."""
    settings = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(papers.broker),
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256",
    }
    for name in ("sasl_plaintext", "sasl_ssl"):
        plain, scram = LOGIN.format("plain.Plain", f'user_ann="{SECRET}"'), LOGIN.format("scram.Scram", "")
        settings[f"listener.name.{name}.plain.sasl.jaas.config"] = plain
        settings[f"listener.name.{name}.scram-sha-256.sasl.jaas.config"] = scram
    try:
        broker = Broker(own=True, protocols=("SASL_PLAINTEXT", "SASL_SSL", "SSL"), settings=settings)
    except NoBrokerError as missing:
        pytest.skip(str(missing))
    with broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
        known = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096)
        [made] = admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion("ann", known, SECRET.encode())]
        ).values()
        made.result(30)
        yield broker


def secured(protocol: str, papers: Certificates, mechanism: str = "", **changed: str) -> dict[str, str]:
    """`config=` for the port of `protocol`."""
    config = {"security.protocol": protocol} | ({"sasl.mechanism": mechanism, **USER} if mechanism else {})
    if protocol.endswith("SSL"):
        config["ssl.ca.location"] = str(papers.authority)
    return config | {name.replace("_", "."): value for name, value in changed.items()}


def copied(broker: Broker, port: str, config: dict[str, str], source: str, sink: str, **options: Any) -> Any:
    """All numbers of `source` to `sink`, through the port of protocol `port`."""
    address = broker.addresses[port]
    return clicks(broker, source, config=config, bootstrap_servers=address).to_kafka(sink, config=config, **options)


@pytest.mark.parametrize(
    ("protocol", "mechanism", "delivery"),
    [
        ("SASL_PLAINTEXT", "PLAIN", "exactly_once"),
        ("SASL_SSL", "SCRAM-SHA-256", "exactly_once"),
        ("SSL", "", "at_least_once"),
    ],
)
def test_source_sink_and_markers_work_with_the_settings_passed_through(
    guarded: Broker,
    papers: Certificates,
    client: Client,
    tmp_path: Path,
    protocol: str,
    mechanism: str,
    delivery: str,
) -> None:
    source, sink = topic(guarded), topic(guarded, "out")
    rows = copied(guarded, protocol, secured(protocol, papers, mechanism), source, sink, delivery=delivery)
    for n in (0, 5):
        append(guarded, source, range(n, n + 5))
        run(rows, client, tmp_path / "ck", lanes=2)

    assert numbers(guarded, sink) == list(range(10))


@pytest.mark.parametrize(
    ("port", "protocol", "mechanism", "changed", "says"),
    [
        (
            "SASL_PLAINTEXT",
            "SASL_PLAINTEXT",
            "PLAIN",
            {"sasl_password": "wrong"},
            "Check sasl.mechanism, sasl.username",
        ),
        ("SASL_SSL", "SASL_SSL", "SCRAM-SHA-256", {"sasl_username": "bob"}, "Check sasl.mechanism, sasl.username"),
        ("SASL_SSL", "SASL_SSL", "SCRAM-SHA-512", {}, "supported mechanisms: PLAIN,SCRAM-SHA-256"),
        ("SSL", "SSL", "", {"ssl_ca_location": "/etc/ssl/certs"}, "Check ssl.ca.location"),
        ("PLAINTEXT", "SSL", "", {}, "the port wants no user and no TLS: set config={'security.protocol': 'PLAINTEXT'"),
        ("SSL", "PLAINTEXT", "", {}, "the port wants no user and TLS: set config={'security.protocol': 'SSL'"),
        ("SASL_SSL", "PLAINTEXT", "", {}, r"wants a user \(PLAIN, SCRAM-SHA-256\) and TLS: .* 'SASL_SSL'"),
        (
            "SASL_PLAINTEXT",
            "PLAINTEXT",
            "",
            {},
            r"wants a user \(PLAIN, SCRAM-SHA-256\) and no TLS: .* 'SASL_PLAINTEXT'",
        ),
        ("PLAINTEXT", "SASL_PLAINTEXT", "PLAIN", {}, "wants no user and no TLS"),
        ("SSL", "SSL", "", {"ssl_ca_location": "/nowhere.pem"}, "ssl.ca.location"),
        ("SSL", "SSL", "", {"ssl_ca_place": "x"}, "No such configuration property"),
    ],
)
def test_wrong_settings_end_the_query_at_once_and_the_error_says_what_to_set(
    guarded: Broker, papers: Certificates, port: str, protocol: str, mechanism: str, changed: dict[str, str], says: str
) -> None:
    config = secured(protocol, papers, mechanism, **changed)
    frame = clicks(guarded, topic(guarded), config=config, bootstrap_servers=guarded.addresses[port], end="latest")

    with pytest.raises((ms.ConnectorError, ms.PlanError), match=says) as caught:
        frame.compute()

    assert not isinstance(caught.value, ms.UnreachableError)
    assert SECRET not in str(caught.value)


def test_a_sink_with_a_wrong_password_ends_the_query_before_anything_is_read(
    guarded: Broker, papers: Certificates, client: Client, tmp_path: Path
) -> None:
    source, sink = topic(guarded), topic(guarded, "out")
    append(guarded, source, range(3))
    wrong = secured("SASL_PLAINTEXT", papers, "PLAIN", sasl_password="wrong")
    address = guarded.addresses["SASL_PLAINTEXT"]

    with pytest.raises(ms.ConnectorError, match=f"topic '{sink}' cannot be reached at {address}: .* Check sasl.mech"):
        run(clicks(guarded, source).to_kafka(sink, bootstrap_servers=address, config=wrong), client, tmp_path / "ck")

    assert numbers(guarded, sink) == []
