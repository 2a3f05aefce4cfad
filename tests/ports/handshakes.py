"""How connections begin."""

import subprocess

import aemp_peer
from aemp_peer import Listener, plain
from stage import Node, case, certificate, expect


def check_echo(peer, node):
    values = ["hi", {"a": [1, 2.5, None, True, "ü"]}]
    peer.tell("snd", f"{peer.node}#echo", *values)
    expect(plain_text(peer.receive_until(lambda message: plain(message[0]) == "echo")[-1]), ["echo", *values])
    peer.send(node.echo_name, f"{peer.node}#back", *values)
    expect(plain_text(peer.receive_until(lambda message: plain(message[0]) == "back")[-1]), ["back", *values])


def plain_text(message):
    """As plain, but bytes are UTF-8."""
    if isinstance(message, bytes):
        return message.decode()
    if isinstance(message, list):
        return [plain_text(value) for value in message]
    if isinstance(message, dict):
        return {plain_text(key): plain_text(value) for key, value in message.items()}
    return message


@case
def we_dial_and_speak_json(node):
    peer = node.meet()
    check_echo(peer, node)
    peer.close()


@case
def we_dial_and_speak_cbor(node):
    peer = node.meet(framings="cbor")
    expect((peer.framing_in, peer.framing_out), ("cbor", "cbor"))
    check_echo(peer, node)
    peer.close()


@case
def each_direction_has_a_framing_of_its_own(node):
    peer = node.dial(framings="json").shake_hands(framing="cbor")
    expect((peer.framing_in, peer.framing_out), ("json", "cbor"))
    check_echo(peer, node)
    peer.close()


@case
def the_first_framing_of_our_list_is_taken(node):
    for framings, taken in [("storable,json,cbor", "json"), ("x,cbor,json", "cbor")]:
        peer = node.dial(framings=framings).shake_hands()
        expect(peer.framing_in, taken)
        check_echo(peer, node)
        peer.close()


@case
def a_seed_is_dialled(node):
    for framing in "json", "cbor":
        seed = Listener()
        with Node(seeds=seed.address) as slave:
            peer = seed.accept(node="seed", framings=framing).shake_hands(framing=framing)
            check_echo(peer, slave)
            peer.close()
            again = seed.accept(node="seed").shake_hands()
            check_echo(again, slave)
            again.close()
        seed.close()


@case
def the_greeting_is_as_specified(node):
    peer = node.dial()
    peer.hear_greeting()
    fields = peer.their_greeting.split(";")
    expect(fields[:5], ["aemp", "1", node.id, "hmac_sha3_512", "cbor,json"])
    expect(peer.their_key("peeraddr"), "127.0.0.1:%d" % peer.socket.getsockname()[1])
    expect((peer.their_key("mproto"), peer.their_key("gproto"), peer.their_key("tls")), ("1", "1", None))
    expect(len(peer.their_nonce), 88)
    peer.close()


@case
def neither_waits_for_the_other_to_begin(node):
    peer = node.dial()
    peer.greet()
    peer.hear_greeting()
    # Its proof comes as soon as it has both of our lines.
    peer.hear_auth()
    peer.write(peer.auth_line())
    check_echo(peer, node)
    peer.close()


@case
def lines_may_end_with_cr_lf(node):
    peer = node.meet(end="\r\n")
    check_echo(peer, node)
    peer.close()


@case
def the_nonce_may_be_empty(node):
    peer = node.meet(nonce="")
    check_echo(peer, node)
    peer.close()


@case
def fields_that_nobody_knows_are_passed_over(node):
    peer = node.dial(keys=[("x", "1"), ("provider", "py%3b"), ("=", "")]).shake_hands(extra=";more;and=more")
    check_echo(peer, node)
    peer.close()


@case
def handshakes_may_come_byte_by_byte(node):
    peer = node.dial()
    for octet in (peer.greeting + "\n" + peer.nonce + "\n").encode():
        peer.write(bytes([octet]))
    peer.hear_greeting()
    for octet in peer.auth_line().encode():
        peer.write(bytes([octet]))
    peer.hear_auth()
    check_echo(peer, node)
    peer.close()


@case
def much_may_follow_right_behind_the_proof(node):
    for framing in "json", "cbor":
        peer = node.dial(framings=framing)
        peer.framing_out = framing
        messages = [["", "snd", f"{peer.node}#burst", number, "x" * 100] for number in range(1000)]
        peer.shake_hands(framing=framing, behind=b"".join(map(peer.pack, messages)))
        seen = peer.receive_until(lambda message: plain(message)[:2] == ["burst", 999])
        burst = [plain(message)[1] for message in seen if plain(message[0]) == "burst"]
        expect(burst, list(range(1000)))
        peer.close()


@case
def cleartext_is_refused(node):
    peer = node.dial()
    peer.greet()
    peer.hear_greeting()
    peer.write(peer.auth_line("cleartext"))
    peer.wait_closed()


@case
def cleartext_is_accepted_if_configured(_):
    with Node(auth_accept="hmac_sha3_512,cleartext") as node:
        peer = node.dial().shake_hands("cleartext")
        expect(peer.their(3), "hmac_sha3_512,cleartext")
        expect(peer.their_auth.split(";")[0], "hmac_sha3_512")
        check_echo(peer, node)
        peer.close()


@case
def a_wrong_secret_is_refused(node):
    peer = node.dial(secret="falsch")
    peer.greet()
    peer.hear_greeting()
    peer.write(peer.auth_line())
    peer.wait_closed()


@case
def a_proof_of_another_length_is_refused(node):
    for change in (lambda line: line.replace(";", ";0", 1), lambda line: line.replace(";json", "").rstrip("\n")[:-1] + ";json\n", lambda line: "hmac_sha3_512;;json\n", lambda line: line.upper()):
        peer = node.dial()
        peer.greet()
        peer.hear_greeting()
        peer.write(change(peer.auth_line()))
        peer.wait_closed()


@case
def methods_that_need_tls_are_refused_without(node):
    for method in "tls_anon", "tls_sha3_512", "hmac_md6_64_256", "", "x":
        peer = node.dial()
        peer.greet()
        peer.hear_greeting()
        proof = peer.proof(method, peer.own_proof()) if method.startswith("tls") else "00"
        peer.write(f"{method};{proof};json\n")
        peer.wait_closed()


def refused_greeting(node, greeting, nonce="bm9uY2U"):
    """Greets in some way; the node says its first two lines, and no third."""
    peer = node.dial()
    peer.write(f"{greeting}\n{nonce}\n")
    peer.wait_closed()
    lines = peer.raw.split(b"\n")
    expect((len(lines), lines[-1]), (3, b""))


@case
def those_that_know_only_md6_are_refused(node):
    refused_greeting(node, "aemp;1;old;tls_md6_64_256,hmac_md6_64_256,tls_anon,cleartext;json,storable;provider=AE-1.30")


@case
def greetings_that_are_none_are_refused(node):
    for greeting in ["GET / HTTP/1.1", "", "http;1;x;hmac_sha3_512;json", "aemp;0;x;hmac_sha3_512;json", "aemp;2;x;hmac_sha3_512;json", "aemp", "aemp;1"]:
        peer = node.dial()
        peer.write(f"{greeting}\n\n")
        peer.wait_closed()


@case
def no_common_framing_is_refused(node):
    for framings in "storable", "", "jso,n":
        refused_greeting(node, f"aemp;1;py;hmac_sha3_512;{framings}")


@case
def a_framing_that_was_not_listed_is_refused(node):
    for framing in "storable", "", "JSON":
        peer = node.dial()
        peer.greet()
        peer.hear_greeting()
        peer.write(peer.auth_line(framing=framing))
        peer.wait_closed()


@case
def the_nodes_own_id_is_refused(node):
    refused_greeting(node, f"aemp;1;{node.id};hmac_sha3_512;json")


@case
def ids_that_are_none_are_refused(node):
    for name in ["", "a#b", "a\tb", "a b\x00"]:
        if name != "a\tb":
            refused_greeting(node, f"aemp;1;{name};hmac_sha3_512;json")


@case
def an_id_that_is_connected_is_refused(node):
    first = node.meet(node="twice")
    refused_greeting(node, "aemp;1;twice;hmac_sha3_512;json")
    check_echo(first, node)
    first.close()


@case
def an_id_is_free_again_when_its_node_is_gone(node):
    for _ in range(5):
        peer = node.meet(node="again")
        peer.close()
        # The node learns of it in its own time: until then it refuses.
        for _ in range(100):
            try:
                node.meet(node="again").close()
                break
            except aemp_peer.Closed:
                pass
        else:
            raise AssertionError("the ID stays taken")


@case
def an_echo_is_refused(node):
    peer = node.dial()
    peer.hear_greeting()
    peer.write(f"{peer.their_greeting}\n{peer.their_nonce}\n")
    peer.wait_closed()
    expect(peer.raw, b"")
    # The nonce alone is enough.
    peer = node.dial(nonce="")
    peer.hear_greeting()
    peer.nonce = peer.their_nonce
    peer.greet()
    peer.wait_closed()
    expect(peer.raw, b"")


@case
def what_was_recorded_is_worth_nothing(node):
    recorded = node.meet(node="victim")
    check_echo(recorded, node)
    recorded.close()
    for once in range(20):
        replayed = node.dial(node="mallory")
        replayed.write(recorded.sent)
        replayed.wait_closed()
        expect(b"echo" in replayed.raw, False)
        if replayed.raw.count(b"\n") == 3:
            break  # it was refused for the proof, and not because the ID was still connected
    else:
        raise AssertionError("the proof was never reached")


@case
def a_proof_of_one_connection_is_no_proof_on_another(node):
    # In the middle of two connections: what the node says on one is said back to it on the other.
    one, other = node.dial(node="middle1"), node.dial(node="middle2")
    one.hear_greeting()
    other.hear_greeting()
    one.write(f"{other.their_greeting}\n{other.their_nonce}\n")
    one.wait_closed()
    other.write(f"{one.their_greeting}\n{one.their_nonce}\n")
    other.wait_closed()
    expect((one.raw, other.raw), (b"", b""))


@case
def a_line_of_5000_octets_is_refused(node):
    for line in "x" * 5000 + "\n", "aemp;1;py;hmac_sha3_512;json;x=" + "y" * 5000 + "\n\n", "x" * 5000:
        peer = node.dial()
        peer.write(line)
        peer.wait_closed()
        expect(peer.raw.count(b"\n"), 2)
    peer = node.dial(nonce="n" * 5000)
    peer.greet()
    peer.wait_closed()
    peer = node.dial()
    peer.greet()
    peer.hear_greeting()
    peer.write(peer.auth_line(extra=";" + "x" * 5000))
    peer.wait_closed()


@case
def a_line_of_4000_octets_is_read(node):
    peer = node.dial(keys=[("x", "y" * 3900)], nonce="n" * 4000).shake_hands(extra=";" + "z" * 3800)
    check_echo(peer, node)
    peer.close()


@case
def silence_is_ended(_):
    with Node(monitor_timeout="2") as node:
        silent, half, slow = node.dial(), node.dial(), node.dial()
        half.greet()
        slow.write("aemp;1;")
        for peer in silent, half, slow:
            peer.wait_closed()
        patient = node.meet()
        try:
            patient.receive(5)
        except TimeoutError:
            pass
        check_echo(patient, node)
        patient.close()
        node.is_well()


@case
def many_that_say_nothing_keep_nobody_out(_):
    with Node(monitor_timeout="60") as node:
        silent = [node.dial() for _ in range(200)]
        node.is_well()
        for peer in silent:
            peer.close()
        node.is_well()


def certificates():
    """Texts of certificates by their kind."""
    ours = subprocess.run([Node.program, "gencert"], check=True, capture_output=True, text=True).stdout
    yield "gencert", ours
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "-", "-out", "-", "-days", "3650", "-subj", "/CN=AnyEvent::MP"]
    try:
        yield "openssl", subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError:
        print("      no openssl here: not tried with an RSA key")


@case
def tls_with_either_side_as_its_client(_):
    for kind, text in certificates():
        with certificate(text) as file, Node(cert=text, secret=None) as node:
            for nonce, role in [("", "client"), ("*", "client"), ("~", "server")]:
                peer = node.dial(node=f"{role}{nonce}", cert=file.name, nonce=nonce, framings="cbor")
                peer.shake_hands(framing="cbor")
                expect((kind, peer.tls_role), (kind, role))
                expect(peer.their_auth.split(";")[0], "tls_sha3_512")
                check_echo(peer, node)
                peer.close()


@case
def tls_with_a_seed(_):
    for _, text in certificates():
        for nonce in "", "~":
            seed = Listener()
            with certificate(text) as file, Node(cert=text, secret=None, seeds=seed.address) as node:
                peer = seed.accept(node="seed", cert=file.name, nonce=nonce).shake_hands()
                expect(peer.tls_role, "client" if nonce == "" else "server")
                check_echo(peer, node)
                peer.close()
            seed.close()


@case
def tls_is_not_begun_if_only_one_has_a_certificate(node):
    text = dict(certificates())["gencert"]
    with certificate(text) as file, Node(cert=text) as other:
        peer = other.dial().shake_hands()
        expect((peer.their_key("tls"), peer.their(3)), ("1.0", "tls_sha3_512,hmac_sha3_512"))
        check_echo(peer, other)
        peer.close()
        peer = node.dial(cert=file.name).shake_hands()
        expect((peer.tls, peer.their_auth.split(";")[0]), (None, "hmac_sha3_512"))
        check_echo(peer, node)
        peer.close()


@case
def without_tls_and_secret_nobody_gets_in(_):
    text = dict(certificates())["gencert"]
    with Node(cert=text, secret=None) as node:
        refused_greeting(node, "aemp;1;py;tls_sha3_512,hmac_sha3_512;json")
        peer = node.dial(secret="")
        peer.greet()
        peer.hear_greeting()
        expect(peer.their(3), "tls_sha3_512")
        peer.write(peer.auth_line("hmac_sha3_512"))
        peer.wait_closed()


@case
def tls_anon_only_if_configured(_):
    text = dict(certificates())["gencert"]
    with certificate(text) as file:
        with Node(cert=text) as node:
            peer = node.dial(cert=file.name)
            peer.greet()
            peer.hear_greeting()
            peer.start_tls()
            peer.write(peer.auth_line("tls_anon"))
            peer.wait_closed()
        with Node(cert=text, auth_accept="tls_anon") as node:
            peer = node.dial(cert=file.name).shake_hands("tls_anon")
            check_echo(peer, node)
            peer.close()


@case
def a_certificate_of_others_is_refused(_):
    texts = [next(certificates())[1] for _ in range(2)]
    with certificate(texts[1]) as file, Node(cert=texts[0]) as node:
        for nonce in "", "~":
            peer = node.dial(cert=file.name, nonce=nonce)
            try:
                peer.shake_hands()
                peer.receive()
            except (OSError, aemp_peer.Closed):
                peer.close()
                continue
            raise AssertionError("a certificate that signs itself got in")


@case
def tls_without_a_certificate_is_refused(_):
    import ssl

    text = next(certificates())[1]
    with certificate(text) as file, Node(cert=text) as node:
        peer = node.dial(cert=file.name, nonce="")
        peer.greet()
        peer.hear_greeting()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        peer.socket.settimeout(aemp_peer.PATIENCE)
        try:
            with context.wrap_socket(peer.socket) as tls:
                tls.sendall(b"tls_sha3_512;" + peer.proof("tls_sha3_512", peer.own_proof()).encode() + b";json\n")
                expect(tls.recv(1), b"")
        except (ssl.SSLError, ConnectionError):
            pass
