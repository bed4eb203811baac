// SPDX-License-Identifier: GPL-2.0

//! Clients that use a kqueue and communicate with servers of another project: Python's
//! `http.server` and `socketserver`.

use crate::common::*;
use kqueue::{ev, Event, Filter};
use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpStream},
    os::fd::AsRawFd,
    process::{Child, Command, Stdio},
};

const CLIENTS: usize = 20;

/// A server written in Python. It is killed when this is dropped.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// Runs `script`, which prints its port.
    fn start(script: &str, argument: &str) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", script, argument])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap();
        Server { child, port }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// One connection: the request, how much of it was sent, and the response.
struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    said: usize,
    heard: Vec<u8>,
    /// True if the client shuts down writing after the request.
    ends: bool,
}

/// Runs all connections at the same time until the server closes each of them. Checks that `data`
/// is the number of readable bytes.
fn talk(server: &Server, requests: Vec<Vec<u8>>, ends: bool) -> Vec<Vec<u8>> {
    let kqueue = kqueue();
    let mut clients = HashMap::new();
    let mut order = Vec::new();
    for request in requests {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port)).unwrap();
        stream.set_nonblocking(true).unwrap();
        change(&kqueue, &[add_read(&stream, 0), add_write(&stream, 0)]);
        order.push(stream.as_raw_fd() as u64);
        let client = Client {
            stream,
            request,
            said: 0,
            heard: Vec::new(),
            ends,
        };
        clients.insert(client.stream.as_raw_fd() as u64, client);
    }
    let mut open = clients.len();
    while open > 0 {
        for event in soon(&kqueue) {
            let client = clients.get_mut(&event.ident).unwrap();
            if event.filter == Filter::WRITE {
                client.said += client.stream.write(&client.request[client.said..]).unwrap();
                if client.said == client.request.len() {
                    let fd = client.stream.as_raw_fd();
                    change(&kqueue, &[Event::fd(fd, Filter::WRITE, ev::DELETE)]);
                    if client.ends {
                        client.stream.shutdown(Shutdown::Write).unwrap();
                    }
                }
                continue;
            }
            assert!(event.data > 0 || event.has(ev::EOF), "{event:?}");
            let mut bytes = vec![0; event.data as usize];
            let got = client.stream.read(&mut bytes).unwrap();
            // The end of the stream has a place in TCP's numbers: it is counted if it comes just
            // when the bytes are, and is reported right after that.
            let short = bytes.len() - got;
            assert!(
                short == 0 || (short == 1 && !event.has(ev::EOF)),
                "{event:?}: {got}"
            );
            client.heard.extend_from_slice(&bytes[..got]);
            if event.has(ev::EOF) {
                // The end was there already, so that was all.
                assert_eq!(client.stream.read(&mut [0]).unwrap(), 0);
                let fd = client.stream.as_raw_fd();
                change(&kqueue, &[Event::fd(fd, Filter::READ, ev::DELETE)]);
                open -= 1;
            }
        }
    }
    let heard = |ident| std::mem::take(&mut clients.get_mut(ident).unwrap().heard);
    order.iter().map(heard).collect()
}

#[test]
fn http_server() {
    let folder = format!("/dev/shm/kqueue-http-{}", std::process::id());
    fs::create_dir(&folder).unwrap();
    let requests = (0..CLIENTS)
        .map(|index| {
            let content = vec![b'a' + index as u8; index * 20_011];
            fs::write(format!("{folder}/{index}"), content).unwrap();
            format!("GET /{index} HTTP/1.0\r\n\r\n").into_bytes()
        })
        .collect();
    let server = Server::start(
        "import functools, http.server as h, sys\n\
         handler = functools.partial(h.SimpleHTTPRequestHandler, directory=sys.argv[1])\n\
         server = h.ThreadingHTTPServer(('127.0.0.1', 0), handler)\n\
         print(server.server_port, flush=True)\n\
         server.serve_forever()",
        &folder,
    );
    for (index, answer) in talk(&server, requests, false).into_iter().enumerate() {
        assert!(answer.starts_with(b"HTTP/1.0 200"), "{index}");
        let content = vec![b'a' + index as u8; index * 20_011];
        assert!(answer.ends_with(&content), "{index}");
        let end = answer
            .windows(4)
            .position(|part| part == b"\r\n\r\n")
            .unwrap();
        assert_eq!(answer.len(), end + 4 + content.len(), "{index}");
    }
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn socketserver() {
    let server = Server::start(
        "import socketserver as s\n\
         class Upper(s.StreamRequestHandler):\n    \
             def handle(self):\n        \
                 for line in self.rfile:\n            \
                     self.wfile.write(line.upper())\n\
         class Server(s.ThreadingTCPServer):\n    \
             daemon_threads = True\n    \
             request_queue_size = 50\n\
         server = Server(('127.0.0.1', 0), Upper)\n\
         print(server.server_address[1], flush=True)\n\
         server.serve_forever()",
        "",
    );
    let requests: Vec<Vec<u8>> = (0..CLIENTS)
        .map(|index| {
            format!("line of client {index}\n")
                .repeat(1 + index * 300)
                .into_bytes()
        })
        .collect();
    let answers = talk(&server, requests.clone(), true);
    for (request, answer) in requests.iter().zip(answers) {
        assert_eq!(request.to_ascii_uppercase(), answer);
    }
}
