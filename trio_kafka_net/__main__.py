"""``python -m trio_kafka_net``: the command line."""

from trio_kafka_net.cli.main import main

main()
