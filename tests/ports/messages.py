"""What nodes say to each other once they are connected."""

import struct
import time

import cbor
from aemp_peer import Listener, plain
from stage import Node, case, expect


def both(node):
    """A peer that speaks JSON, and one that speaks CBOR with byte strings for everything, as Perl does."""
    json, perl = node.meet(node="json"), node.meet(node="perl", framings="cbor")
    perl.perl = True
    return json, perl


@case
def a_message_is_sent_on(node):
    other = node.meet(node="other")
    for peer in both(node):
        peer.tell("snd", "other#here", "tag", 1, 2)
        expect(other.receive(), ["here", "tag", 1, 2])
        peer.tell("snd", peer.node)
        expect(plain(peer.receive()), [""])


@case
def a_message_reaches_a_port_and_comes_back(node):
    for peer in both(node):
        for values in [[], [None], [1, -1, 2**63 - 1, -(2**63), 2**64 - 1], [0.5, 1e300], [[[]], {}], ["", "x" * 70000]]:
            peer.send(node.echo_name, f"{peer.node}#a", *values)
            expect(plain(peer.receive()), ["a", *values])


@case
def a_monitor_fires_once_with_the_reason(node):
    for peer in both(node):
        name = f"watched-{peer.node}"
        peer.tell("AnyEvent::MP::_spawn", name, "conformance::echo", f"{peer.node}#born")
        peer.tell("mon1", name)
        peer.tell("kil1", name, "why", ["not", 1])
        peer.tell("kil1", name, "too late")
        expect(plain(peer.settle()), [["born", "ready"], ["", "kil0", name, "why", ["not", 1]]])


@case
def the_older_word_for_kil_does_as_well_and_no_reason_is_a_normal_end(node):
    for peer in both(node):
        for number, tag in enumerate(["kil", "kil1"]):
            name = f"ends{number}-{peer.node}"
            peer.tell("AnyEvent::MP::_spawn", name, "conformance::echo", f"{peer.node}#born")
            peer.tell("mon1", name)
            peer.tell(tag, name)
            expect(plain(peer.settle()), [["born", "ready"], ["", "kil0", name]])


@case
def a_monitor_that_is_taken_back_does_not_fire(node):
    for peer in both(node):
        peer.tell("mon1", node.echo_name)
        peer.tell("mon0", node.echo_name)
        peer.tell("mon0", node.echo_name)
        peer.tell("mon0", "nosuch")
        name = f"spared-{peer.node}"
        peer.tell("AnyEvent::MP::_spawn", name, "conformance::echo", f"{peer.node}#born")
        peer.tell("mon1", name)
        peer.tell("mon0", name)
        peer.tell("kil1", name, "why")
        expect(plain(peer.settle()), [["born", "ready"]])


@case
def two_monitors_fire_twice_and_one_can_be_taken_back(node):
    peer = node.meet()
    for name, taken_back, fired in [("twice", 0, 2), ("once", 1, 1)]:
        peer.tell("AnyEvent::MP::_spawn", name, "conformance::echo", "py/1#born")
        for tag in ["mon1"] * 2 + ["mon0"] * taken_back:
            peer.tell(tag, name)
        peer.tell("kil1", name, "why")
        expect(peer.settle(), [["born", "ready"]] + [["", "kil0", name, "why"]] * fired)


@case
def a_monitor_on_a_port_that_is_not_there_says_so(node):
    for peer in both(node):
        peer.tell("mon1", "nosuch")
        expect(plain(peer.receive()), ["", "kil0", "nosuch", "no_such_port", "cannot monitor nonexistent port", f"{node.id}#nosuch"])
        peer.tell("kil1", "nosuch", "why", "not")
        peer.tell("mon1", "")
        expect(peer.settle(), [])


@case
def messages_behind_a_spawn_reach_the_new_port(node):
    for peer in both(node):
        name = f"Ab3Runiqc{peer.node}"
        peer.tell("AnyEvent::MP::_spawn", name, "conformance::echo", f"{peer.node}#a", 1, "two")
        peer.send(name, f"{peer.node}#a", "early")
        peer.tell("mon1", name)
        expect(plain(peer.settle()), [["a", "ready", 1, "two"], ["a", "early"]])
        peer.send(name, f"{peer.node}#a", "late")
        expect(plain(peer.settle()), [["a", "late"]])


@case
def what_cannot_be_spawned_is_not_there(node):
    peer = node.meet()
    for function in "::xyz", "conformance::xyz", "xyz::abc", "xyz", "conformance::nothing", "conformance::fails":
        name = f"spawned-{function}"
        peer.tell("AnyEvent::MP::_spawn", name, function, 1)
        peer.tell("mon1", name)
        peer.send(name, "early")
        expect(peer.settle(), [["", "kil0", name, "no_such_port", "cannot monitor nonexistent port", f"{node.id}#{name}"]])


@case
def a_port_that_gets_what_it_does_not_understand_dies(node):
    peer = node.meet()
    peer.tell("AnyEvent::MP::_spawn", "dies", "conformance::echo", "py/1#born")
    peer.tell("mon1", "dies")
    peer.send("dies", 17)
    expect(peer.settle(), [["born", "ready"], ["", "kil0", "dies", "no_reply", "expected a port ID first"]])


@case
def the_nodes_tags_answer(node):
    for peer in both(node):
        before = time.time()
        peer.tell("time", f"{peer.node}#t", "it", "is")
        tag, *message, seconds = plain(peer.receive())
        expect([tag, *message], ["t", "it", "is"])
        expect((type(seconds), before - 5 < seconds < time.time() + 5), (float, True))
        for asked, can in [("mon1", "1"), ("g_slave", "1"), ("", "1"), ("xyz", ""), ("AnyEvent::MP::_spawn", "1")]:
            peer.tell("can", asked, f"{peer.node}#c", "can")
            expect(plain(peer.receive()), ["c", "can", can])
        peer.tell("devnull", 1, 2)
        peer.tell("")
        expect(peer.settle(), [])


@case
def eval_knows_commands_only(node):
    for peer in both(node):
        peer.tell("eval", "add 1 2 39", f"{peer.node}#e", "reply")
        expect(plain(peer.receive()), ["e", "reply", "", 42])
        peer.tell("eval", "add 1 2")
        peer.tell("eval", "exit 1", f"{peer.node}#e", "reply")
        port, reply, error = plain(peer.receive())
        expect(([port, reply], "no such command" in error), (["e", "reply"], True))


@case
def what_is_no_request_is_ignored(node):
    peer = node.meet()
    for message in [
        [],
        [None],
        ["", ""],
        [None, None],
        ["", "xyz"],
        ["", "xyz::abc", 1],
        ["", 17],
        ["", ["mon1"]],
        ["", {"a": 1}],
        ["", "mon1"],
        ["", "mon1", {}],
        ["", "kil0"],
        ["", "kil0", "nobody watches", "this"],
        ["", "kil1"],
        ["", "kil1", "", "the node itself"],
        ["", "snd"],
        ["", "snd", 1],
        ["", "snd", {}],
        ["", "time"],
        ["", "can"],
        ["", "eval"],
        ["", "AnyEvent::MP::_spawn"],
        ["", "AnyEvent::MP::_spawn", "name"],
        ["", "AnyEvent::MP::_spawn", "", "conformance::echo", "py/1#x"],
        ["", "AnyEvent::MP::_spawn", "x" * 100000, "conformance::echo", "py/1#x"],
        ["", "main::exit"],
        ["nosuch", 1],
        ["x" * 100000, 1],
        ["a#b", 1],
    ]:
        peer.send(*message)
        expect(peer.settle(), [])


@case
def the_name_of_a_port_may_look_like_a_number(node):
    for peer in both(node):
        peer.tell("AnyEvent::MP::_spawn", 5, "conformance::echo", f"{peer.node}#a")
        peer.send(5, f"{peer.node}#a", 17)
        peer.tell("kil1", 5)
        expect(plain(peer.settle()), [["a", "ready"], ["a", 17]])


@case
def a_secure_node_runs_nothing_for_others(_):
    with Node(secure="1") as node:
        peer = node.meet()
        peer.tell("AnyEvent::MP::_spawn", "spawned", "conformance::echo", "py/1#x")
        peer.tell("mon1", "spawned")
        peer.tell("eval", "add 1 2", "py/1#e")
        peer.tell("conformance::up_nodes", "py/1#u")
        expect(peer.settle(), [["", "kil0", "spawned", "no_such_port", "cannot monitor nonexistent port", f"{node.id}#spawned"]])
        peer.send(node.echo_name, "py/1#x", "still")
        expect(peer.settle(), [["x", "still"]])
        peer.close()


# The other way round: what the node asks of us.


@case
def the_node_asks_as_specified(node):
    for peer in both(node):
        us = peer.node
        peer.tell("conformance::watch", f"{us}#theirs", f"{us}#told")
        expect(plain(peer.receive()), ["", "mon1", "theirs"])
        peer.tell("conformance::watch", f"{us}#theirs", f"{us}#told2")  # shares the first
        expect(peer.settle(), [])
        peer.tell("kil0", "theirs", "why", "not")
        expect(plain(peer.settle()), [["told", "died", f"{us}#theirs", "why", "not"], ["told2", "died", f"{us}#theirs", "why", "not"]])
        peer.tell("kil0", "theirs", "again")
        expect(peer.settle(), [])
        peer.tell("conformance::watch", f"{us}#theirs", f"{us}#told")
        peer.tell("conformance::unwatch", f"{us}#theirs")
        expect(plain(peer.settle()), [["", "mon1", "theirs"], ["", "mon0", "theirs"]])
        peer.tell("conformance::kill", f"{us}#theirs", ["bad", 1])
        expect(plain(peer.receive()), ["", "kil1", "theirs", "bad", 1])
        peer.tell("conformance::send", f"{us}#theirs", ["hello", None, True, 1.5, "ü", {"k": []}])
        port, *values = peer.receive()
        expect((plain(port), values[1:4], plain(values[5])), ("theirs", [None, True, 1.5], {"k": []}))
        peer.tell("conformance::spawn", us, "Perl::init", [1, "two"], f"{us}#told")
        spawn, told = plain(peer.settle())
        expect(spawn, ["", "AnyEvent::MP::_spawn", spawn[2], "Perl::init", 1, "two"])
        expect(told, ["told", "spawned", f"{us}#{spawn[2]}"])


@case
def a_monitor_hears_of_the_lost_connection(node):
    for how in "closed", "broken":
        watcher = node.meet(node=f"watcher-{how}")
        lost = node.meet(node=f"lost-{how}")
        ports = [f"{lost.node}#a", f"{lost.node}#b", f"{lost.node}#"]
        for port in ports[0], ports[1], lost.node:
            watcher.tell("conformance::watch", port, f"{watcher.node}#told")
        watcher.settle()
        expect(sorted(message[2] for message in [lost.receive(), lost.receive()]), ["a", "b"])
        if how == "closed":
            lost.close()
            text = "Unexpected end-of-file"
        else:
            lost.socket.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER: the system resets it
            lost.close()
            text = "Connection reset by peer"
        reason = ["transport_error", lost.node, text]
        seen = [watcher.receive() for _ in range(3)]
        expect(sorted(seen), sorted(["told", "died", port, *reason] for port in ports))
        watcher.settle()


@case
def a_node_that_cannot_be_reached_is_lost(_):
    with Node(connect_interval="0.5") as node:
        peer = node.meet()
        peer.tell("conformance::watch", "nobody#x", "py/1#told")
        expect(peer.receive(), ["told", "died", "nobody#x", "transport_error", "nobody", "no known address"])
        peer.close()


@case
def a_peer_that_is_gone_is_not_told_of_deaths(node):
    gone = node.meet(node="gone")
    gone.tell("AnyEvent::MP::_spawn", "port", "conformance::echo", "gone#born")
    gone.tell("mon1", "port")
    gone.settle()
    gone.close()
    for _ in range(1000):
        again = node.dial(node="gone")
        again.greet()
        again.hear_greeting()
        try:
            again.write(again.auth_line())
            again.hear_auth()
            break
        except OSError:
            continue
        except Exception:  # noqa: BLE001  (refused while the old connection is there)
            continue
    again.echo = node.echo_name
    expect(again.receive(), ["", "g_global"])
    again.tell("kil1", "port", "why")
    expect(again.settle(), [])


# Framings


@case
def white_space_between_json_arrays_is_ignored(node):
    peer = node.meet()
    peer.write(b' \r\n\t[ "" , "snd" , "py/1#a" ,\n 1 ] \n\n["","snd","py/1#a","\\u00fc\\ud83d\\ude00"]')
    expect(peer.settle(), [["a", 1], ["a", "ü😀"]])


@case
def json_may_come_byte_by_byte(node):
    peer = node.meet()
    for octet in '["","snd","py/1#ä","ü\\"]",{"]":"["}]'.encode():
        peer.write(bytes([octet]))
    expect(peer.settle(), [["ä", 'ü"]', {"]": "["}]])


@case
def cbor_may_come_byte_by_byte(node):
    peer = node.meet(framings="cbor")
    for octet in cbor.encode(["", "snd", "py/1#a", "ü", {"]": [1.5]}]):
        peer.write(bytes([octet]))
    expect(plain(peer.settle()), [["a", "ü", {"]": [1.5]}]])


@case
def all_forms_of_cbor_are_read(node):
    peer = node.meet(framings="cbor")
    start = cbor.encode(node.echo_name) + cbor.encode("py/1#a")
    for data, value in [
        ("f93e00", 1.5),
        ("fa3fc00000", 1.5),
        ("fb3ff8000000000000", 1.5),
        ("f97c00", float("inf")),
        ("9f01820203ff", [1, [2, 3]]),
        ("bf616101ff", {"a": 1}),
        ("7f61616162ff", "ab"),
        ("5f41614162ff", b"ab"),
        ("41fc", b"\xfc"),
        ("a14161414f", {"a": b"O"}),
        ("f7", None),
        ("1818", 24),
        ("1b0000000000000001", 1),
        ("c11a514b67b0", 1363896240),
        ("d9d9f701", 1),
    ]:
        peer.write(b"\x83" + start + bytes.fromhex(data))
        seen = peer.receive()
        expect((data, plain(seen[0]), seen[1:]), (data, "a", [value]))
    # The whole of it of indefinite length.
    peer.write(b"\x9f" + start + b"\x01\xff")
    expect(plain(peer.receive()), ["a", 1])


@case
def latin_1_goes_through_as_it_came(node):
    peer = node.meet(framings="cbor")
    peer.perl = True
    peer.write(b"\x84\x40\x43snd" + cbor.encode(b"py/1#a") + b"\x41\xfc")
    expect(plain(peer.receive()[0]), "a")
    peer.write(b"\x83" + cbor.encode(node.echo_name.encode()) + cbor.encode(b"py/1#a") + b"\x41\xfc")
    seen = peer.receive()
    expect((plain(seen[0]), seen[1]), ("a", b"\xfc"))
    # In keys too, which come back as text.
    peer.write(b"\x83" + cbor.encode(node.echo_name.encode()) + cbor.encode(b"py/1#a") + b"\xa1\x41\xfc\x01")
    expect(peer.receive()[1], {"ü": 1})


@case
def json_reads_what_cbor_wrote(node):
    json, perl = both(node)
    perl.tell("snd", "json#a", "text", b"bytes", {"key": "ü"})
    seen = json.receive()
    expect(seen[:3], ["a", "text", "bytes"])
    json.tell("snd", "perl#a", {"key": ["ü", None]})
    expect(plain(perl.receive())[0], "a")


def broken(live, data, **peer):
    """Sends what cannot be a message: the connection is closed."""
    peer = live.meet(**peer)
    expect(peer.settle(), [])
    peer.write(data)
    peer.wait_closed()
    expect(peer.raw, b"")


@case
def json_that_is_broken_closes_the_connection(node):
    for number, data in enumerate([b'["",[}]]', b"}", b'["" 2]', b"[,]", b'["",]', b'["\xff"]', b'["",{1:2}]', b"[tru]", b"nonsense", b'["","snd","\x00"]', b"[" * 100000]):
        broken(node, data, node=f"broken{number}")


@case
def values_that_are_no_lists_close_the_connection(node):
    for number, data in enumerate([b"{}", b"17 ", b'"text"', b"null", b"true"]):
        broken(node, data, node=f"json{number}")
    for number, data in enumerate([b"\xa0", b"\x11", b"\x61a", b"\xf6", b"\xf5"]):
        broken(node, data, node=f"cbor{number}", framings="cbor")


@case
def cbor_that_is_broken_closes_the_connection(node):
    hostile = ["ff", "1c", "8240ff", "81fc", "9b7fffffffffffffff", "5b7fffffffffffffff", "815b00ffffffffffffff", "81" * 2000, "9f" * 2000, "82405f01ff", "8240a161ff01", "7f4161ff", "81bf00ff"]
    for number, data in enumerate(hostile):
        broken(node, bytes.fromhex(data), node=f"broken{number}", framings="cbor")


@case
def a_port_name_that_is_no_text_closes_or_is_ignored_and_nothing_else_breaks(node):
    for number, message in enumerate([[{}], [[]], [1.5], [True]]):
        peer = node.meet(node=f"odd{number}")
        peer.send(*message)
        try:
            expect(peer.settle(), [])
        except Exception as error:  # noqa: BLE001
            if isinstance(error, AssertionError):
                raise
        peer.close()


@case
def a_message_of_many_megabytes_is_read_and_a_larger_one_refused(node):
    peer = node.meet(framings="cbor")
    peer.send(node.echo_name, "py/1#a", b"x" * (12 << 20))
    seen = peer.receive(60)
    expect((plain(seen[0]), len(seen[1])), ("a", 12 << 20))
    try:
        peer.write(b"\x82\x40\x5a" + struct.pack(">I", 40 << 20) + b"x" * (40 << 20))
    except OSError:
        pass
    peer.wait_closed()


@case
def a_peer_that_does_not_read_harms_nobody(node):
    deaf = node.meet(node="deaf")
    deaf.socket.settimeout(1)
    message = deaf.pack(["", "snd", "deaf#x", "y" * 60000])
    try:
        for _ in range(5000):
            deaf.socket.sendall(message)
    except OSError:
        pass
    node.is_well()
    deaf.close()


@case
def a_seed_that_is_not_there_is_tried_again(_):
    seed = Listener()
    with Node(seeds=seed.address, monitor_timeout="3") as node:
        for _ in range(3):
            seed.accept().close()
        peer = seed.accept(node="seed").shake_hands()
        peer.receive_until(lambda message: message[:2] == ["", "g_slave"])
        peer.echo = node.echo_name
        peer.settle()
        peer.close()
    seed.close()
