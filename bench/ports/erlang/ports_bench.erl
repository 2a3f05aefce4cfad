%% Processes of Erlang, measured as ports are.
%%
%% Local: `erl -noshell -pa DIRECTORY -run ports_bench main TEST NUMBERS`. Remote: two nodes that find each
%% other without epmd, `erl -sname NAME -start_epmd false -erl_epmd_port PORT`, and on the side that
%% connects `-dist_listen false`.
-module(ports_bench).
-export([main/1]).

main(Words) ->
    try run(Words) of
        _ -> halt(0)
    catch
        _:Reason:Stack ->
            io:format(standard_error, "~p~n~p~n", [Reason, Stack]),
            halt(2)
    end.

run(["flood", Count]) -> flood("flood", 1, list_to_integer(Count));
run(["fanin", Senders, Count]) -> flood("fanin", list_to_integer(Senders), list_to_integer(Count));
run(["pingpong", Count]) ->
    N = list_to_integer(Count),
    ring("pingpong", 2, 2 * N, N);
run(["ring", Ports, Hops]) ->
    N = list_to_integer(Hops),
    ring("ring", list_to_integer(Ports), N, N);
run(["idle", Count]) -> idle(list_to_integer(Count));
run(["churn", Count]) -> churn(list_to_integer(Count));
run(["monitors", Count]) -> monitors(list_to_integer(Count));
run(["serve", Port]) ->
    register(bench, self()),
    io:format("listening ~s~n", [Port]),
    serve(0);
run(["remote-flood", Node, Count, Size]) ->
    remote_flood(connect(Node), list_to_integer(Count), list_to_integer(Size));
run(["remote-pingpong", Node, Count, Size]) ->
    remote_pingpong(connect(Node), list_to_integer(Count), list_to_integer(Size)).

%% Local. What is started waits for `go`, so that all is there when the clock starts.

flood(Test, Senders, Count) ->
    Each = Count div Senders,
    All = Each * Senders,
    Me = self(),
    Counter = spawn_link(fun() -> count(All), Me ! done end),
    Pids = [spawn_link(fun() -> receive go -> send(Counter, Each) end end) || _ <- lists:seq(1, Senders)],
    Meter = start(),
    [Pid ! go || Pid <- Pids],
    receive done -> ok end,
    finish(Meter, Test, All, "").

count(0) -> ok;
count(Left) -> receive _ -> count(Left - 1) end.

send(_, 0) -> ok;
send(To, Left) -> To ! Left, send(To, Left - 1).

ring(Test, Ports, Hops, Count) ->
    Me = self(),
    First = spawn_link(fun() -> receive {next, Next} -> relay(Next, Me) end end),
    Last = lists:foldl(fun(_, Next) -> spawn_link(fun() -> relay(Next, Me) end) end, First, lists:seq(2, Ports)),
    First ! {next, Last},
    Meter = start(),
    First ! Hops,
    receive done -> ok end,
    finish(Meter, Test, Count, "").

relay(Next, Done) ->
    receive
        0 -> Done ! done, relay(Next, Done);
        Hops -> Next ! Hops - 1, relay(Next, Done)
    end.

idle(Count) ->
    Before = memory(),
    Running = erlang:system_info(process_count),
    Meter = start(),
    Pids = [spawn(fun wait/0) || _ <- lists:seq(1, Count)],
    Each = (memory() - Before) div Count,
    finish(Meter, "idle", Count, io_lib:format(", \"bytes_each\": ~b", [Each])),
    Second = start(),
    [exit(Pid, kill) || Pid <- Pids],
    ended(Running),
    finish(Second, "kill", Count, "").

churn(Count) ->
    Running = erlang:system_info(process_count),
    Meter = start(),
    churn_on(Count),
    ended(Running),
    finish(Meter, "churn", Count, "").

churn_on(0) -> ok;
churn_on(Left) -> exit(spawn(fun wait/0), kill), churn_on(Left - 1).

ended(Running) ->
    case erlang:system_info(process_count) =< Running of
        true -> ok;
        false -> erlang:yield(), ended(Running)
    end.

monitors(Count) ->
    Pids = [element(1, spawn_monitor(fun wait/0)) || _ <- lists:seq(1, Count)],
    Meter = start(),
    [exit(Pid, kill) || Pid <- Pids],
    downs(Count),
    finish(Meter, "monitors", Count, "").

downs(0) -> ok;
downs(Left) -> receive {'DOWN', _, process, _, _} -> downs(Left - 1) end.

wait() -> receive stop -> ok end.

%% Remote. The node that serves counts binaries, and says how many there were when it is asked.

serve(Count) ->
    receive
        Binary when is_binary(Binary) -> serve(Count + 1);
        {ping, From, Binary} -> From ! Binary, serve(Count);
        {count, From} -> From ! {count, Count}, serve(0)
    end.

connect(Name) ->
    Node = list_to_atom(Name),
    true = net_kernel:connect_node(Node),
    {bench, Node} ! {count, self()},
    receive {count, 0} -> {bench, Node} end.

remote_flood(To, Count, Size) ->
    Binary = binary:copy(<<0>>, Size),
    Meter = start(),
    send_binary(To, Binary, Count),
    To ! {count, self()},
    receive {count, Count} -> ok end,
    finish(Meter, "remote-flood", Count, "").

send_binary(_, _, 0) -> ok;
send_binary(To, Binary, Left) -> To ! Binary, send_binary(To, Binary, Left - 1).

remote_pingpong(To, Count, Size) ->
    Binary = binary:copy(<<0>>, Size),
    Meter = start(),
    Times = lists:sort([round_trip(To, Binary) || _ <- lists:seq(1, Count)]),
    At = fun(Share) -> lists:nth(min(Count, Count * Share div 100 + 1), Times) / 1000 end,
    finish(Meter, "remote-pingpong", Count, io_lib:format(", \"p50_us\": ~.2f, \"p99_us\": ~.2f", [At(50), At(99)])).

round_trip(To, Binary) ->
    Start = erlang:monotonic_time(nanosecond),
    To ! {ping, self(), Binary},
    receive Binary -> erlang:monotonic_time(nanosecond) - Start end.

%% Time, memory, the line of JSON.

start() -> {erlang:monotonic_time(nanosecond), cpu_milliseconds()}.

finish({Start, Cpu}, Test, Count, More) ->
    Seconds = (erlang:monotonic_time(nanosecond) - Start) / 1.0e9,
    io:format("{\"test\": \"~s\", \"system\": \"erlang\", \"messages\": ~b, \"seconds\": ~.6f, \"cpu_seconds\": ~.6f~s}~n",
              [Test, Count, Seconds, (cpu_milliseconds() - Cpu) / 1000, More]).

cpu_milliseconds() -> element(1, erlang:statistics(runtime)).

memory() ->
    {ok, Text} = file:read_file("/proc/self/statm"),
    [_, Resident | _] = string:lexemes(Text, " "),
    binary_to_integer(Resident) * 4096.
