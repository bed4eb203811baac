# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
version='nginx 1.26'
switch='`--with-cc-opt="-D_GNU_SOURCE -include sys/event.h -DNGX_HAVE_TIMER_EVENT=1 -DNGX_EXCLUSIVE_EVENT=0"`'
what='a load, since its tests are not in its source: files by sendfile and by threads, a proxy, TLS, HUP and USR2 under load'
host=(libssl-dev openssl)

build() {
	local options=()
	# Whether the timer works it would find out by running a program. The header is for its
	# check for kqueue(), which comes after Linux's own.
	[ "$1" = native ] ||
		options=(--with-cc-opt="$include -D_GNU_SOURCE -include sys/event.h -DNGX_HAVE_TIMER_EVENT=1 -DNGX_EXCLUSIVE_EVENT=0"
			--with-ld-opt="$object" --with-poll_module)
	step configure ./configure --with-threads --with-http_ssl_module --without-http_rewrite_module \
		--without-http_gzip_module "${options[@]}"
	[ "$1" = native ] || grep -q NGX_HAVE_KQUEUE objs/ngx_auto_config.h || die "nginx did not find kqueue()"
	step make make -j "$(nproc)"
}

configuration() {
	cat <<-CONF
		user root;
		worker_processes 2;
		pid $PWD/pid;
		error_log $PWD/error.log info;
		timer_resolution 100ms;
		worker_shutdown_timeout 60s;
		thread_pool default threads=4;
		events {
			use $1;
			worker_connections 512;
		}
		http {
			access_log off;
			keepalive_requests 100000;
			proxy_temp_path $PWD/temporary;
			client_body_temp_path $PWD/bodies;
			fastcgi_temp_path $PWD/f;
			uwsgi_temp_path $PWD/u;
			scgi_temp_path $PWD/s;
			upstream behind {
				server 127.0.0.1:8081;
				keepalive 8;
			}
			server {
				listen 127.0.0.1:8080 backlog=512;
				listen 127.0.0.1:8443 ssl;
				ssl_certificate $PWD/certificate;
				ssl_certificate_key $PWD/key;
				root $PWD/files;
				sendfile on;
				location /threads/ {
					alias $PWD/files/;
					sendfile off;
					aio threads;
					output_buffers 2 16k;
				}
				location /sent-by-threads/ {
					alias $PWD/files/;
					aio threads;
				}
				location /proxy/ {
					proxy_pass http://behind/;
					proxy_http_version 1.1;
					proxy_set_header Connection "";
					proxy_buffers 4 8k;
					aio threads;
					aio_write on;
				}
			}
			server {
				listen 127.0.0.1:8081 reuseport;
				root $PWD/files;
			}
			server {
				listen unix:$PWD/socket;
				root $PWD/files;
			}
			server {
				listen 127.0.0.1:8082;
				location / { proxy_pass http://unix:$PWD/socket:/; }
			}
		}
	CONF
}

workers() { pgrep -P "$(cat pid)" | sort; }
same_workers() { [ "$(workers)" = "$1" ]; }
other_workers() { [ -n "$(workers)" ] && [ "$(workers)" != "$1" ]; }

# The configuration is reloaded again and again while requests are made.
requests_while_reloading() {
	local load round before
	requests 400 8 http://127.0.0.1:8080/small &
	load=$!
	for round in 1 2 3 4; do
		before=$(workers)
		kill -HUP "$(cat pid)"
		eventually other_workers "$before" || echo "no new workers in round $round"
	done
	wait "$load"
}

# A new program takes over while requests are made.
requests_while_upgrading() {
	local load old
	old=$(cat pid)
	requests 300 8 http://127.0.0.1:8080/small &
	load=$!
	kill -USR2 "$old"
	eventually test -s pid.oldbin || return
	eventually test -s pid || return
	kill -QUIT "$old"
	wait "$load" || return
	eventually gone "$old"
}

quit() {
	local master
	master=$(cat pid)
	kill -QUIT "$master"
	eventually gone "$master"
}

quiet_log() { ! grep -E '\[(alert|crit|emerg)\]|signal (6|11)' error.log; }

run() {
	local use=epoll path workers url=http://127.0.0.1:8080
	[ "$1" = native ] || use=kqueue
	mkdir files
	head -c 1000 /dev/urandom >files/small
	head -c 300000 /dev/urandom >files/middle
	head -c 8000000 /dev/urandom >files/large
	openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key -out certificate 2>/dev/null
	configuration $use >conf
	expect starts "$built/objs/nginx" -c "$PWD/conf" -p "$PWD" -e "$PWD/error.log"
	expect listens eventually listens 8443
	workers=$(workers)
	for path in small middle large threads/middle threads/large sent-by-threads/large proxy/small proxy/middle proxy/large; do
		expect "content of $path" same "$url/$path" "files/${path##*/}"
	done
	expect "content through a UNIX socket" same http://127.0.0.1:8082/large files/large
	expect "small files" requests 500 20 $url/small
	expect "small files, kept alive" requests 1000 20 $url/small -k
	expect "large files by sendfile" requests 20 5 $url/large
	expect "middle files by threads" requests 200 10 $url/threads/middle -k
	expect "large files by threads" requests 20 5 $url/threads/large
	expect "large files by sendfile in threads" requests 20 5 $url/sent-by-threads/large
	expect "a proxy" requests 300 10 $url/proxy/small -k
	expect "a proxy of large files" requests 10 5 $url/proxy/large
	expect "a proxy to a UNIX socket" requests 200 10 http://127.0.0.1:8082/middle
	expect "TLS" requests 30 5 https://127.0.0.1:8443/middle -k
	expect "the workers are the same" same_workers "$workers"
	expect "reload under load" requests_while_reloading
	expect "upgrade under load" requests_while_upgrading
	expect "content after all that" same "$url/threads/large" files/large
	expect "quit" quit
	expect "nothing bad in its log" quiet_log
	cat error.log
}
