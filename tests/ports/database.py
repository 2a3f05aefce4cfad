"""The database that all nodes share, and how nodes find each other."""

import aemp_peer
from aemp_peer import Listener, plain
from stage import Node, case, expect

NOBODY = ["127.0.0.1:1"]


def slave(node, name="client2/arjEI6p1dR", **peer):
    """A peer that has made the node its master."""
    met = node.meet(node=name, **peer)
    met.tell("g_slave")
    met.tell("g_slave", {"grp1": {f"{name}#b": None}, "'l": {name: NOBODY}})
    return met


@case
def a_slave_asks_its_master(node):
    # What two 2.02 nodes said to each other.
    for framing in "json", "cbor":
        name = f"client2/{framing}"
        us = f"{name}#b"
        peer = slave(node, name, framings=framing)
        peer.perl = True
        peer.tell("g_find", node.id)
        peer.tell("g_mon1", "grp1")
        peer.tell("g_slave")
        expect(plain(peer.receive()), ["", "g_found", node.id, [node.address]])
        expect(plain(peer.receive()), ["", "g_chg1", "grp1", {us: None}])
        for kind, answer in [("keys", [us]), ("values", [None]), ("family", {us: None})]:
            peer.tell(f"g_db_{kind}", "grp1", kind[0])
            expect(plain(peer.receive()), ["", "g_reply", kind[0], answer])
        peer.tell("kil1", "nosuch", "why", "not")
        peer.tell("g_find", "nosuchnode")
        expect(plain(peer.receive()), ["", "g_found", "nosuchnode", None])
        peer.tell("g_upd", "grp1", None, [us])
        expect(plain(peer.receive()), ["", "g_chg2", "grp1", {}, [us]])
        peer.tell("g_mon0", "grp1")
        peer.tell("g_upd", "grp1", {us: 1})
        peer.tell("g_upd", "grp2", {"k": {"a": 1}})
        peer.tell("g_db_family", "grp2", "e")
        expect(plain(peer.receive()), ["", "g_reply", "e", {"k": {"a": 1}}])
        peer.tell("g_db_family", "nosuch", "f")
        expect(plain(peer.receive()), ["", "g_reply", "f", {}])
        peer.tell("g_mon1", "nosuch")
        expect(plain(peer.receive())[:3], ["", "g_chg1", "nosuch"])
        expect(peer.settle(), [])
        peer.close()


@case
def a_slave_sees_the_nodes_own_group(node):
    peer = slave(node)
    peer.tell("g_db_keys", "conformance", "a")
    expect(peer.receive(), ["", "g_reply", "a", [node.echo]])
    peer.tell("g_mon1", "toys")
    expect(peer.receive(), ["", "g_chg1", "toys", None])
    peer.tell("conformance::db_set", "toys", "ball", {"color": "red"})
    expect(peer.receive(), ["", "g_chg2", "toys", {"ball": {"color": "red"}}, []])
    peer.tell("conformance::db_set", "toys", "ball", {"color": "red"})
    expect(peer.settle(), [])
    peer.tell("conformance::db_del", "toys", "ball")
    expect(peer.receive(), ["", "g_chg2", "toys", {}, ["ball"]])
    peer.close()


@case
def entries_go_when_their_node_goes(node):
    for how in "close", "kill":
        watcher = slave(node, f"watcher-{how}")
        watcher.tell("g_mon1", "grp1")
        watcher.tell("conformance::db_mon", "grp1", f"{watcher.node}#seen")
        watcher.settle()
        gone = slave(node, f"gone-{how}")
        key = f"{gone.node}#b"
        local = watcher.receive_until(lambda message: message[0] == "seen")
        expect(local[-1][2:], [[key], [], []])
        watcher.settle()
        if how == "close":
            gone.close()
        else:
            gone.write(b"]")
            gone.wait_closed()
        seen = watcher.receive_until(lambda message: message[0] == "seen")
        seen += watcher.settle()
        expect([message for message in seen if message[0] == ""], [["", "g_chg2", "grp1", {}, [key]]])
        expect([message[2:] for message in seen if message[0] == "seen"], [[[], [], [key]]])
        watcher.tell("g_find", gone.node)
        expect(watcher.receive(), ["", "g_found", gone.node, None])
        watcher.close()


@case
def of_two_that_set_a_key_one_stays(node):
    watcher, one, other = slave(node, "watcher"), slave(node, "one"), slave(node, "other")
    for peer in one, other:
        peer.tell("g_upd", "shared", {"key": peer.node})
        peer.settle()
    watcher.tell("g_mon1", "shared")
    content = watcher.receive()
    expect(content in (["", "g_chg1", "shared", {"key": "one"}], ["", "g_chg1", "shared", {"key": "other"}]), True)
    one.close()
    other.tell("g_upd", "shared", {"more": 1})
    watcher.receive_until(lambda message: "more" in message[3])
    watcher.tell("g_db_family", "shared", "a")
    answer = watcher.receive_until(lambda message: message[:3] == ["", "g_reply", "a"])[-1]
    expect(answer[3], {"key": "other", "more": 1})
    other.close()
    watcher.receive_until(lambda message: message[1] == "g_chg2" and "key" in message[4])


@case
def what_is_no_database_message_harms_nobody(node):
    for number, message in enumerate([["g_slave", 17], ["g_slave", {"f": 1}], ["g_upd"], ["g_upd", "f", [1]], ["g_upd", "", {"a": 1}], ["g_find"], ["g_mon1", {}], ["g_mon0"], ["g_set", "x"], ["g_db_family"], ["g_reply"], ["g_found", "a#b"], ["g_chg1"], ["g_chg2", "f", {}, {}], ["g_upd", "f", {"k" * 100000: 1}]]):
        peer = slave(node, f"odd{number}")
        peer.tell(*message)
        try:
            peer.settle()
        except (aemp_peer.Closed, OSError):
            pass  # to close the connection is right as well
        peer.close()


@case
def the_node_finds_and_dials_others(node):
    # The database says where somebody is; a message for them opens the connection.
    home = Listener()
    peer = slave(node, "informer")
    peer.tell("g_upd", "'l", {"elsewhere": ["127.0.0.1:1", home.address]})
    peer.tell("conformance::send", "elsewhere#port", ["hello"])
    peer.tell("conformance::watch", "elsewhere#port", "informer#told")
    met = home.accept(node="elsewhere").shake_hands()
    expect(met.receive(), ["port", "hello"])
    expect(met.receive(), ["", "mon1", "port"])
    expect(met.receive(), ["", "g_global"])
    met.tell("kil0", "port")
    expect(peer.receive(), ["told", "died", "elsewhere#port"])
    met.close()
    home.close()


@case
def who_answers_under_another_name_is_not_taken_for_who_was_called(_):
    with Node(connect_interval="1") as node:
        home = Listener()
        peer = slave(node, "informer")
        peer.tell("g_upd", "'l", {"elsewhere": [home.address]})
        peer.tell("conformance::watch", "elsewhere#port", "informer#told")
        met = home.accept(node="somebody").shake_hands()
        expect(met.receive(), ["", "g_global"])
        told = peer.receive()
        expect((told[:5], len(told)), (["told", "died", "elsewhere#port", "transport_error", "elsewhere"], 6))
        home.close()


# As the master of a slave


@case
def we_are_the_seed_and_master(_):
    for framing in "json", "cbor":
        seed = Listener()
        with Node(seeds=seed.address) as node:
            peer = seed.accept(node="seed", framings=framing)
            peer.perl = True
            peer.echo = node.echo_name
            peer.shake_hands(framing=framing)
            local = {"conformance": {node.echo: None}, "'l": {node.id: [node.address]}}
            first = peer.receive_until(lambda message: len(message) == 3)
            # It asks the seed to be global, at the greeting and when it is up, and then to be its master.
            expect(plain(first[-1]), ["", "g_slave", local])
            expect([plain(message) for message in first[:-1] if plain(message) != ["", "g_slave"]], [])
            rest = [plain(message) for message in peer.settle()]
            expect([message for message in rest if message != ["", "g_slave"]], [])
            expect(len(first) + len(rest) >= 2, True)
            peer.tell("g_global")

            peer.tell("conformance::db_mon", "grp", "seed#seen")
            expect(plain(peer.receive()), ["", "g_mon1", "grp"])
            peer.tell("g_chg1", "grp", {"a": 1, "b": {"x": None}})
            expect(plain(peer.receive()), ["seen", {"a": 1, "b": {"x": None}}, ["a", "b"], [], []])
            peer.tell("g_chg2", "grp", {"a": 2, "c": 3}, ["b"])
            expect(plain(peer.receive()), ["seen", {"a": 2, "c": 3}, ["c"], ["a"], ["b"]])
            peer.tell("g_chg2", "grp", {}, [])
            peer.tell("g_chg2", "other", {"k": 1}, [])
            expect(peer.settle(), [])

            peer.tell("conformance::db_mon", "empty", "seed#seen")
            expect(plain(peer.receive()), ["", "g_mon1", "empty"])
            peer.tell("g_chg1", "empty", None)
            expect(plain(peer.receive()), ["seen", {}, [], [], []])

            peer.tell("conformance::db_family", "grp2", "seed#got")
            _, tag, family, number = plain(peer.receive())
            expect((tag, family), ("g_db_family", "grp2"))
            peer.tell("g_reply", number, {"k": [1]})
            expect(plain(peer.receive()), ["got", {"k": [1]}])
            peer.tell("g_reply", number, {"k": [2]})
            expect(peer.settle(), [])

            peer.tell("conformance::db_set", "toys", "ball", 7)
            expect(plain(peer.receive()), ["", "g_upd", "toys", {"ball": 7}])
            peer.tell("conformance::db_set", "toys", "ball", 7)
            expect(peer.settle(), [])
            peer.tell("conformance::db_del", "toys", "ball")
            expect(plain(peer.receive()), ["", "g_upd", "toys", None, ["ball"]])
            peer.close()
        seed.close()


@case
def a_slave_asks_its_master_where_a_node_is(_):
    seed, home = Listener(), Listener()
    with Node(seeds=seed.address, connect_interval="5") as node:
        master = seed.accept(node="seed").shake_hands()
        master.echo = node.echo_name
        master.tell("g_global")
        master.settle()
        master.tell("conformance::send", "far#port", ["hello"])
        expect(master.receive(), ["", "g_find", "far"])
        master.tell("g_found", "far", [home.address])
        far = home.accept(node="far").shake_hands()
        expect(far.receive(), ["port", "hello"])
        for unknown in None, []:
            master.tell("conformance::watch", "lost#port", "seed#told")
            expect(master.receive(), ["", "g_find", "lost"])
            master.tell("g_found", "lost", unknown)
            expect(master.receive(), ["told", "died", "lost#port", "transport_error", "lost", "no known address"])
        master.close()
    seed.close()
    home.close()


@case
def a_slave_goes_on_with_another_seed(_):
    one, other = Listener(), Listener()
    with Node(seeds=f"{one.address},{other.address}") as node:
        peers = [seed.accept(node=name) for seed, name in [(one, "one"), (other, "other")]]
        first = peers[0].shake_hands()
        first.receive_until(lambda message: len(message) == 3)
        second = peers[1].shake_hands()
        second.echo = node.echo_name
        second.settle()
        second.tell("conformance::db_mon", "grp", "other#seen")
        second.tell("conformance::db_family", "asked", "other#got")
        second.tell("conformance::db_set", "toys", "ball", 1)
        first.receive_until(lambda message: message[:2] == ["", "g_upd"])
        first.close()
        again = second.receive_until(lambda message: message[1] == "g_slave" and len(message) == 3)[-1]
        expect(again[2]["toys"], {"ball": 1})
        asked = sorted(message[1:3] for message in second.settle() if message[1] != "g_slave")
        expect(asked, [["g_db_family", "asked"], ["g_mon1", "grp"]])
        second.close()
    one.close()
    other.close()


@case
def a_slave_that_is_asked_to_becomes_global(_):
    seed = Listener()
    with Node(seeds=seed.address) as node:
        peer = seed.accept(node="seed").shake_hands()
        peer.echo = node.echo_name
        peer.settle()
        peer.tell("g_slave")
        expect(peer.receive(), ["", "g_global"])
        peer.tell("g_global")
        expect(peer.receive()[:2], ["", "g_set"])
        peer.close()
    seed.close()


# As another global node


@case
def two_global_nodes_share_what_they_have(node):
    far = node.meet(node="global")
    far.tell("g_global")
    _, tag, families = far.receive()
    expect((tag, families["conformance"]), ("g_set", {node.echo: None}))
    expect(families["'l"], {node.id: [node.address]})
    expect(families["'g"], {node.id: None, "global": None})
    far.tell("g_set", {"'g": {"global": None, node.id: None}, "'l": {"global": NOBODY, "theirs": NOBODY}, "grp1": {"theirs#a": 5}})
    # It passes on where we are as its own.
    expect(far.receive(), ["", "g_upd", "'l", {"global": NOBODY}])

    near = slave(node, "near")
    near.tell("g_mon1", "grp1")
    expect(near.receive(), ["", "g_chg1", "grp1", {"near#b": None, "theirs#a": 5}])
    near.tell("g_find", "theirs")
    expect(near.receive(), ["", "g_found", "theirs", NOBODY])
    # Of its slave it tells us; of us it does not tell us.
    told = {}
    for message in far.settle():
        expect(message[:2], ["", "g_upd"])
        told.setdefault(message[2], {}).update(message[3] or {})
    expect(told, {"grp1": {"near#b": None}, "'l": {"near": NOBODY}})
    far.tell("g_upd", "grp1", {"theirs#b": 6}, ["theirs#a"])
    expect(near.receive(), ["", "g_chg2", "grp1", {"theirs#b": 6}, ["theirs#a"]])
    expect(far.settle(), [])
    near.tell("g_upd", "grp1", {"near#c": 1}, ["near#b"])
    near.settle()
    seen = far.settle()
    expect(seen, [["", "g_upd", "grp1", {"near#c": 1}, ["near#b"]]])
    # With the same key on both sides, the value of the one that stays stays.
    near.tell("g_upd", "grp1", {"same": "near"})
    near.settle()
    far.tell("g_upd", "grp1", {"same": "far"})
    far.settle()
    near.settle()
    near.tell("g_upd", "grp1", None, ["same"])
    near.settle()
    expect(["", "g_upd", "grp1", None, ["same"]] in far.settle(), True)
    near.tell("g_db_family", "grp1", "x")
    expect(near.receive_until(lambda message: message[1] == "g_reply")[-1][3]["same"], "far")
    far.close()
    gone = near.receive_until(lambda message: message[1] == "g_chg2" and "same" in message[4])
    near.settle()
    near.tell("g_db_family", "grp1", "y")
    expect(near.receive()[3], {"near#c": 1})
    del gone


@case
def a_global_node_looks_for_the_others(node):
    home = Listener()
    far = node.meet(node="global1")
    far.tell("g_global")
    far.tell("g_set", {"'g": {"global2": None}, "'l": {"global1": NOBODY, "global2": [home.address]}})
    for _ in range(2):
        met = home.accept(node="global2").shake_hands()
        expect(met.receive(), ["", "g_global"])
        met.close()
    met = home.accept(node="global2").shake_hands()
    expect(met.receive(), ["", "g_global"])
    met.tell("g_global")
    expect(met.receive()[:2], ["", "g_set"])
    home.close()


@case
def a_master_that_finds_itself_among_its_seeds_is_global(_):
    probe = Listener()
    address = probe.address
    probe.close()
    with Node(binds=address, seeds=address) as node:
        for _ in range(200):
            peer = node.dial().shake_hands()
            peer.echo = node.echo_name
            if ["", "g_global"] in peer.settle():
                break
            peer.node += "x"
            peer.close()
        else:
            raise AssertionError("it is no global node")
