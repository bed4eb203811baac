/* SPDX-License-Identifier: GPL-2.0 */
/*
 * libev brings no tests. This tries its kinds of watchers on whatever backend LIBEV_FLAGS says (8 is
 * kqueue, 4 epoll), and prints a line for each.
 */
#include <ev.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHANNELS 200
#define ROUNDS 5000

static int failed;

static void result(const char *name, int good)
{
	printf("%s libev::%s\n", good ? "ok" : "not ok", name);
	failed |= !good;
}

/* A loop that ends by itself when something is not told. */
static void give_up(EV_P_ ev_timer *watcher, int events)
{
	(void)events;
	*(int *)watcher->data = 1;
	ev_break(EV_A_ EVBREAK_ALL);
}

static int run(EV_P)
{
	int late = 0;
	ev_timer guard;

	ev_timer_init(&guard, give_up, 120., 0.);
	guard.data = &late;
	ev_timer_start(EV_A_ &guard);
	/* It alone does not keep the loop going. */
	ev_unref(EV_A);
	ev_run(EV_A_ 0);
	ev_ref(EV_A);
	ev_timer_stop(EV_A_ &guard);
	return !late;
}

struct channel {
	ev_io in, out;
	int sent, received;
};

static struct channel channels[CHANNELS];
static int received_in_all;

static void on_readable(EV_P_ ev_io *watcher, int events)
{
	struct channel *channel = watcher->data;
	char buffer[16];
	ssize_t count = read(watcher->fd, buffer, sizeof(buffer));

	if (count <= 0 || !(events & EV_READ)) {
		ev_break(EV_A_ EVBREAK_ALL);
		return;
	}
	channel->received += count;
	received_in_all += count;
	if (received_in_all == ROUNDS)
		ev_break(EV_A_ EVBREAK_ALL);
	else if (!ev_is_active(&channel->out))
		ev_io_start(EV_A_ &channel->out);
}

static void on_writable(EV_P_ ev_io *watcher, int events)
{
	struct channel *channel = watcher->data;

	ev_io_stop(EV_A_ watcher);
	if ((events & EV_WRITE) && channel->sent + received_in_all < 2 * ROUNDS) {
		if (write(watcher->fd, "x", 1) == 1)
			channel->sent++;
	}
}

static void io(EV_P_ const char *name, int sockets)
{
	int i, good = 1;

	memset(channels, 0, sizeof(channels));
	received_in_all = 0;
	for (i = 0; i < CHANNELS; i++) {
		int ends[2];

		if (sockets ? socketpair(AF_UNIX, SOCK_STREAM, 0, ends) : pipe(ends)) {
			result(name, 0);
			return;
		}
		ev_io_init(&channels[i].in, on_readable, ends[0], EV_READ);
		ev_io_init(&channels[i].out, on_writable, ends[1], EV_WRITE);
		channels[i].in.data = channels[i].out.data = &channels[i];
		ev_io_start(EV_A_ &channels[i].in);
		ev_io_start(EV_A_ &channels[i].out);
	}
	good &= run(EV_A);
	good &= received_in_all == ROUNDS;
	for (i = 0; i < CHANNELS; i++) {
		good &= channels[i].received > 0 && channels[i].received <= channels[i].sent;
		ev_io_stop(EV_A_ &channels[i].in);
		ev_io_stop(EV_A_ &channels[i].out);
		close(channels[i].in.fd);
		close(channels[i].out.fd);
	}
	result(name, good);
}

static int reopened[2], told;

static void on_reopened(EV_P_ ev_io *watcher, int events)
{
	char byte;

	(void)events;
	told += read(watcher->fd, &byte, 1) == 1;
	ev_break(EV_A_ EVBREAK_ALL);
}

/* A number that is closed and used again is the new file's. */
static void reuse(EV_P)
{
	ev_io watcher;
	int i, good = 1;

	told = 0;
	for (i = 0; i < 50; i++) {
		good &= pipe(reopened) == 0;
		ev_io_init(&watcher, on_reopened, reopened[0], EV_READ);
		ev_io_start(EV_A_ &watcher);
		good &= write(reopened[1], "x", 1) == 1;
		good &= run(EV_A);
		ev_io_stop(EV_A_ &watcher);
		close(reopened[0]);
		close(reopened[1]);
	}
	result("reused_numbers", good && told == 50);
}

static int fired;

static void on_timer(EV_P_ ev_timer *watcher, int events)
{
	(void)events;
	if (++fired == 20)
		ev_timer_stop(EV_A_ watcher);
}

static void timer(EV_P)
{
	ev_timer watcher;

	fired = 0;
	ev_timer_init(&watcher, on_timer, 0.001, 0.001);
	ev_timer_start(EV_A_ &watcher);
	ev_run(EV_A_ 0);
	result("timer", fired == 20);
}

static void on_signal(EV_P_ ev_signal *watcher, int events)
{
	(void)events;
	if (++fired == 10)
		ev_signal_stop(EV_A_ watcher);
	else
		raise(watcher->signum);
}

static void signals(EV_P)
{
	ev_signal watcher;

	fired = 0;
	ev_signal_init(&watcher, on_signal, SIGUSR1);
	ev_signal_start(EV_A_ &watcher);
	raise(SIGUSR1);
	result("signal", run(EV_A) && fired == 10);
}

static int statuses;

static void on_child(EV_P_ ev_child *watcher, int events)
{
	(void)events;
	statuses += WIFEXITED(watcher->rstatus) && WEXITSTATUS(watcher->rstatus) == 7;
	ev_child_stop(EV_A_ watcher);
	if (++fired == 10)
		ev_break(EV_A_ EVBREAK_ALL);
}

static void children(EV_P)
{
	ev_child watcher[10];
	int i;

	fired = statuses = 0;
	for (i = 0; i < 10; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(7);
		ev_child_init(&watcher[i], on_child, pid, 0);
		ev_child_start(EV_A_ &watcher[i]);
	}
	result("child", run(EV_A) && fired == 10 && statuses == 10);
}

static void on_stat(EV_P_ ev_stat *watcher, int events)
{
	(void)events;
	fired = (int)watcher->attr.st_size;
	ev_stat_stop(EV_A_ watcher);
}

static void files(EV_P)
{
	char path[] = "/dev/shm/kqueue-libev.XXXXXX";
	int fd = mkstemp(path);
	ev_stat watcher;

	fired = 0;
	ev_stat_init(&watcher, on_stat, path, 0.5);
	ev_stat_start(EV_A_ &watcher);
	result("stat", write(fd, "12345", 5) == 5 && run(EV_A) && fired == 5);
	close(fd);
	unlink(path);
}

static void on_async(EV_P_ ev_async *watcher, int events)
{
	(void)events;
	fired++;
	ev_async_stop(EV_A_ watcher);
}

struct sender {
	struct ev_loop *loop;
	ev_async *watcher;
};

static void *send_async(void *argument)
{
	struct sender *sender = argument;

	ev_async_send(sender->loop, sender->watcher);
	return NULL;
}

static void async(EV_P)
{
	ev_async watcher;
	struct sender sender = { EV_A, &watcher };
	pthread_t thread;
	int i, good = 1;

	fired = 0;
	for (i = 0; i < 100; i++) {
		ev_async_init(&watcher, on_async);
		ev_async_start(EV_A_ &watcher);
		good &= pthread_create(&thread, NULL, send_async, &sender) == 0;
		good &= run(EV_A);
		good &= pthread_join(thread, NULL) == 0;
	}
	result("async", good && fired == 100);
}

/* A child's loop is made anew; the parent's works on. */
static void forked(EV_P)
{
	int ends[2], status = 1, good;
	ev_io watcher;
	pid_t pid;

	good = pipe(ends) == 0 && write(ends[1], "xx", 2) == 2;
	told = 0;
	ev_io_init(&watcher, on_reopened, ends[0], EV_READ);
	ev_io_start(EV_A_ &watcher);
	pid = fork();
	if (pid == 0) {
		ev_loop_fork(EV_A);
		_exit(!(run(EV_A) && told == 1));
	}
	good &= waitpid(pid, &status, 0) == pid && status == 0;
	good &= run(EV_A) && told == 1;
	ev_io_stop(EV_A_ &watcher);
	close(ends[0]);
	close(ends[1]);
	result("fork", good);
}

static void on_tick(EV_P_ ev_timer *watcher, int events)
{
	(void)loop;
	(void)events;
	if (write(*(int *)watcher->data, "x", 1) != 1)
		failed = 1;
}

/* A loop within another: the kqueue is itself watched. */
static void embedded(EV_P)
{
	struct ev_loop *outer = ev_loop_new(EVBACKEND_POLL);
	ev_embed embed;
	ev_timer tick;
	ev_io watcher;
	int ends[2], good;

	good = outer && pipe(ends) == 0;
	told = 0;
	ev_io_init(&watcher, on_reopened, ends[0], EV_READ);
	ev_io_start(EV_A_ &watcher);
	ev_embed_init(&embed, NULL, EV_A);
	ev_embed_start(outer, &embed);
	ev_timer_init(&tick, on_tick, 0.01, 0.01);
	tick.data = &ends[1];
	ev_timer_start(outer, &tick);
	while (good && told < 5)
		ev_run(outer, EVRUN_ONCE);
	ev_io_stop(EV_A_ &watcher);
	ev_timer_stop(outer, &tick);
	ev_embed_stop(outer, &embed);
	close(ends[0]);
	close(ends[1]);
	ev_loop_destroy(outer);
	result("embed", good);
}

int main(void)
{
	struct ev_loop *loop = ev_default_loop(0);
	const char *flags = getenv("LIBEV_FLAGS");

	setvbuf(stdout, NULL, _IOLBF, 0);

	if (!loop || !flags || ev_backend(loop) != (unsigned int)atoi(flags)) {
		fprintf(stderr, "the backend that was asked for is not to be had\n");
		return 1;
	}
	io(loop, "pipes", 0);
	io(loop, "sockets", 1);
	reuse(loop);
	timer(loop);
	signals(loop);
	children(loop);
	files(loop);
	async(loop);
	forked(loop);
	embedded(loop);
	ev_loop_destroy(loop);
	return failed;
}
