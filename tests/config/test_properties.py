"""The syntax of java.util.Properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_kafka_net.config import read_properties
from trio_kafka_net.errors import ConfigError


@pytest.fixture
def read(tmp_path):
    def read_text(text):
        path = tmp_path / "server.properties"
        path.write_bytes(text.encode("iso-8859-1"))
        return read_properties(path)

    return read_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=b", {"a": "b"}),
        ("a = b ", {"a": "b "}),
        ("a:b", {"a": "b"}),
        ("a b c", {"a": "b c"}),
        ("a\t\f b", {"a": "b"}),
        ("a", {"a": ""}),
        ("a=", {"a": ""}),
        ("a = = b", {"a": "= b"}),
        ("=b", {"": "b"}),
        ("  a=b", {"a": "b"}),
        ("a=1\na=2", {"a": "2"}),
        ("a=1\r\nb=2\rc=3", {"a": "1", "b": "2", "c": "3"}),
        ("# a=1\n  ! b=2\n\n \t\nc=3 # no comment", {"c": "3 # no comment"}),
        ("a=1,\\\n    2,\\\r\n\t3", {"a": "1,2,3"}),
        ("a=b\\\\\nc=d", {"a": "b\\", "c": "d"}),
        ("a=1\\\n# 2", {"a": "1# 2"}),
        ("a=1\\", {"a": "1"}),
        ("\\\na=b", {"a": "b"}),
        ("a\\=b\\:c\\ d=e", {"a=b:c d": "e"}),
        ("a=\\t\\n\\r\\f\\q\\\\", {"a": "\t\n\r\fq\\"}),
        ("a=\\u0041\\u00e9\\u20AC", {"a": "Aé€"}),
        ("a=\\ud83d\\ude00", {"a": "😀"}),
        ("listeners=PLAINTEXT://:9092,C://:9093", {"listeners": "PLAINTEXT://:9092,C://:9093"}),
        ("a=\xe9", {"a": "é"}),
    ],
)
def test_properties_are_read_as_java_reads_them(read, text, expected):
    assert read(text) == expected


@pytest.mark.parametrize("escape", ["\\u", "\\u12", "\\u12g4", "\\uD83"])
def test_properties_with_a_bad_unicode_escape_name_the_line(read, escape):
    with pytest.raises(ConfigError, match=r"server\.properties, line 3: .*hexadecimal"):
        read(f"a=1\n# comment\nb={escape}")


def test_properties_that_cannot_be_read_say_so(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*absent: No such file"):
        read_properties(tmp_path / "absent")


@given(st.dictionaries(st.text(), st.text()))
def test_properties_written_as_java_writes_them_come_back(tmp_path_factory, properties):
    def escape(text):
        units = text.encode("utf-16-be", "surrogatepass")
        return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))

    path = tmp_path_factory.mktemp("properties") / "p"
    path.write_text("\n".join(f"{escape(k)}={escape(v)}" for k, v in properties.items()))

    assert read_properties(path) == properties
