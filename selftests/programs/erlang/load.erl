%% SPDX-License-Identifier: GPL-2.0
%% A load of an Erlang emulator: everything that its poll set waits for. Prints a line for each test.
-module(load).
-export([main/1]).

main([Kind]) ->
    test("the poll set is " ++ Kind, fun() -> poll_set(list_to_atom(Kind)) end),
    test("TCP: 40 clients, 25 messages each, passive", fun() -> tcp(40, 25, false) end),
    test("TCP: 40 clients, 25 messages each, active", fun() -> tcp(40, 25, true) end),
    test("TCP: a writer that has to wait for room", fun slow_reader/0),
    test("TCP: the end of the other side", fun closed/0),
    test("TCP: a connection that is refused", fun refused/0),
    test("UNIX stream", fun unix_stream/0),
    test("UDP: 200 datagrams there and back", fun() -> udp(200) end),
    test("socket: accept, recv and send with select", fun socket_api/0),
    test("ports: 20 programs that answer", fun() -> ports(20) end),
    test("ports: the exit status of a program", fun exit_status/0),
    test("ports: 1 MiB through a program", fun through_cat/0),
    test("timers while sockets are waited for", fun timers/0),
    halt(0, [{flush, true}]).

test(Name, Fun) ->
    {Pid, Ref} = spawn_monitor(Fun),
    receive
        {'DOWN', Ref, process, Pid, normal} -> io:format("ok ~s~n", [Name]);
        {'DOWN', Ref, process, Pid, Why} -> io:format("not ok ~s: ~0p~n", [Name, Why])
    after 300000 ->
        exit(Pid, kill),
        io:format("not ok ~s: it did not end~n", [Name])
    end.

poll_set(Kind) ->
    Sets = erlang:system_info(check_io),
    true = lists:any(fun(Set) -> proplists:get_value(primary, Set) =:= Kind end, Sets).

%% The server echoes lines; each client checks that every answer is its own line.
tcp(Clients, Messages, Active) ->
    {Port, Server} = echo_server(Active),
    run(Clients, fun(Number) ->
        {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {packet, line}, {active, false}]),
        [begin
            Line = iolist_to_binary(io_lib:format("~b ~b~n", [Number, I])),
            ok = gen_tcp:send(Socket, Line),
            {ok, Line} = gen_tcp:recv(Socket, 0)
        end || I <- lists:seq(1, Messages)],
        ok = gen_tcp:close(Socket)
    end),
    exit(Server, kill).

echo_server(Active) ->
    Self = self(),
    Server = spawn_link(fun() ->
        unlink(Self),
        {ok, Listen} = gen_tcp:listen(0, [binary, {packet, line}, {active, false}, {backlog, 64}]),
        {ok, Port} = inet:port(Listen),
        Self ! {port, Port},
        accept(Listen, Active)
    end),
    receive {port, Port} -> {Port, Server} end.

accept(Listen, Active) ->
    {ok, Socket} = gen_tcp:accept(Listen),
    Pid = spawn(fun() ->
        receive go -> ok end,
        ok = inet:setopts(Socket, [{active, Active}]),
        echo(Socket, Active)
    end),
    ok = gen_tcp:controlling_process(Socket, Pid),
    Pid ! go,
    accept(Listen, Active).

echo(Socket, true) ->
    receive
        {tcp, Socket, Line} -> ok = gen_tcp:send(Socket, Line), echo(Socket, true);
        {tcp_closed, Socket} -> ok
    end;
echo(Socket, false) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, Line} -> ok = gen_tcp:send(Socket, Line), echo(Socket, false);
        {error, closed} -> ok
    end.

pair() ->
    {ok, Listen} = gen_tcp:listen(0, [binary, {active, false}, {buffer, 4096}, {recbuf, 4096}]),
    {ok, Port} = inet:port(Listen),
    {ok, One} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}, {sndbuf, 4096}]),
    {ok, Other} = gen_tcp:accept(Listen),
    {One, Other}.

%% What does not fit into the socket is queued in the emulator, whose limit makes the next send wait.
slow_reader() ->
    Piece = 64 * 1024,
    Pieces = 64,
    {Writer, Reader} = pair(),
    Self = self(),
    spawn_link(fun() ->
        [ok = gen_tcp:send(Writer, binary:copy(<<N>>, Piece)) || N <- lists:seq(1, Pieces)],
        Self ! sent,
        receive never -> ok end
    end),
    receive sent -> exit(too_early) after 500 -> ok end,
    [begin
        {ok, Data} = gen_tcp:recv(Reader, Piece),
        Data = binary:copy(<<N>>, Piece)
    end || N <- lists:seq(1, Pieces)],
    receive sent -> ok end.

closed() ->
    {One, Other} = pair(),
    ok = inet:setopts(One, [{active, true}]),
    ok = gen_tcp:send(Other, "last words"),
    ok = gen_tcp:close(Other),
    <<"last words">> = words(One, <<>>).

words(Socket, Before) ->
    receive
        {tcp, Socket, Data} -> words(Socket, <<Before/binary, Data/binary>>);
        {tcp_closed, Socket} -> Before
    end.

refused() ->
    {ok, Listen} = gen_tcp:listen(0, []),
    {ok, Port} = inet:port(Listen),
    ok = gen_tcp:close(Listen),
    {error, econnrefused} = gen_tcp:connect({127, 0, 0, 1}, Port, []).

unix_stream() ->
    Path = filename:absname("socket"),
    {ok, Listen} = gen_tcp:listen(0, [binary, {active, false}, {ifaddr, {local, Path}}]),
    {ok, One} = gen_tcp:connect({local, Path}, 0, [binary, {active, false}]),
    {ok, Other} = gen_tcp:accept(Listen),
    ok = gen_tcp:send(One, "hello"),
    {ok, <<"hello">>} = gen_tcp:recv(Other, 5),
    ok = gen_tcp:close(One),
    {error, closed} = gen_tcp:recv(Other, 0).

udp(Count) ->
    {ok, Server} = gen_udp:open(0, [binary, {active, false}, {ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Server),
    spawn_link(fun() -> reflect(Server, Count) end),
    {ok, Client} = gen_udp:open(0, [binary, {active, true}, {ip, {127, 0, 0, 1}}]),
    [begin
        Text = integer_to_binary(I),
        ok = gen_udp:send(Client, {127, 0, 0, 1}, Port, Text),
        receive {udp, Client, _, Port, Text} -> ok end
    end || I <- lists:seq(1, Count)].

reflect(_, 0) -> ok;
reflect(Socket, Left) ->
    {ok, {Address, Port, Text}} = gen_udp:recv(Socket, 0),
    ok = gen_udp:send(Socket, Address, Port, Text),
    reflect(Socket, Left - 1).

socket_api() ->
    {ok, Listen} = socket:open(inet, stream, tcp),
    ok = socket:bind(Listen, #{family => inet, addr => loopback, port => 0}),
    ok = socket:listen(Listen),
    {ok, Address} = socket:sockname(Listen),
    {select, {select_info, accept, Handle}} = socket:accept(Listen, nowait),
    {ok, Client} = socket:open(inet, stream, tcp),
    ok = socket:connect(Client, Address),
    receive {'$socket', Listen, select, Handle} -> ok end,
    {ok, Server} = socket:accept(Listen),
    {select, {select_info, recv, Receives}} = socket:recv(Server, 4, nowait),
    ok = socket:send(Client, <<"ping">>),
    receive {'$socket', Server, select, Receives} -> ok end,
    {ok, <<"ping">>} = socket:recv(Server, 4).

ports(Count) ->
    run(Count, fun(Number) ->
        Port = open_port({spawn_executable, "/bin/cat"}, [binary, use_stdio, stream]),
        Text = integer_to_binary(Number),
        true = port_command(Port, Text),
        receive {Port, {data, Text}} -> ok end,
        true = port_close(Port)
    end).

exit_status() ->
    Port = open_port({spawn, "sh -c 'exit 7'"}, [exit_status]),
    receive {Port, {exit_status, 7}} -> ok end.

through_cat() ->
    Size = 1024 * 1024,
    Port = open_port({spawn_executable, "/bin/cat"}, [binary, use_stdio, stream]),
    true = port_command(Port, binary:copy(<<"y">>, Size)),
    Size = collect(Port, Size, 0).

collect(_, Size, Size) -> Size;
collect(Port, Size, Have) ->
    receive {Port, {data, Data}} -> collect(Port, Size, Have + byte_size(Data)) end.

timers() ->
    {_, Reader} = pair(),
    {error, timeout} = gen_tcp:recv(Reader, 1, 100),
    Self = self(),
    [erlang:send_after(N, Self, {timer, N}) || N <- lists:seq(1, 200)],
    [receive {timer, N} -> ok end || N <- lists:seq(1, 200)].

run(Count, Fun) ->
    Started = [spawn_monitor(fun() -> Fun(N) end) || N <- lists:seq(1, Count)],
    [receive {'DOWN', Ref, process, Pid, Why} -> normal = Why end || {Pid, Ref} <- Started].
