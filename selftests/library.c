/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The C library: its control descriptor, its errors, fork, threads, cancellation. Runs as root.
 */
#include <sys/event.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHECK(condition) do {						\
	if (!(condition)) {						\
		fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__,	\
			__LINE__, #condition, errno);			\
		exit(1);						\
	}								\
} while (0)

/* A kqueue works: a timer fires on it. */
static void check_works(int kq)
{
	struct kevent change, event;

	CHECK(kq >= 0);
	EV_SET(&change, 1, EVFILT_TIMER, EV_ADD | EV_ONESHOT, 0, 1, NULL);
	CHECK(kevent(kq, &change, 1, &event, 1, NULL) == 1);
	CHECK(event.filter == EVFILT_TIMER && event.data == 1);
}

static void check_child(pid_t pid)
{
	int status;

	CHECK(pid > 0);
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static int is_kqueue(int fd)
{
	char path[64], name[64];
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	length = readlink(path, name, sizeof(name) - 1);
	if (length < 0)
		return 0;
	name[length] = 0;
	return strstr(name, "kqueue") != NULL;
}

/* The kqueues take the lowest numbers, whatever else the library keeps. */
static void numbers(void)
{
	int first = dup(0), kq;

	CHECK(first >= 0 && close(first) == 0);
	kq = kqueue();
	CHECK(kq == first);
	CHECK(fcntl(kq, F_GETFD) == FD_CLOEXEC);
	CHECK(is_kqueue(kq));
	CHECK(close(kq) == 0);

	errno = ERANGE;
	kq = kqueue1(O_NONBLOCK);
	CHECK(kq == first && errno == ERANGE);
	CHECK(fcntl(kq, F_GETFD) == 0);
	CHECK(fcntl(kq, F_GETFL) & O_NONBLOCK);
	check_works(kq);
	CHECK(close(kq) == 0);
}

static void no_descriptors_left(void)
{
	struct kevent change;
	int kq = kqueue(), spare = dup(0);

	CHECK(kq >= 0 && spare >= 0);
	for (;;) {
		int fd = kqueue();

		if (fd == -1)
			break;
		CHECK(fd < 65536);
	}
	CHECK(errno == EMFILE);
	/* Those that there are work on. */
	EV_SET(&change, 1, EVFILT_USER, EV_ADD, 0, 0, NULL);
	CHECK(kevent(kq, &change, 1, NULL, 0, NULL) == 0);
	CHECK(close(spare) == 0);
	CHECK(kqueue() == spare);
}

/* A program that closes what it does not know closes the control descriptor too. */
static void all_closed(void)
{
	int fd, other;

	close(kqueue());
	for (fd = 3; fd < 1024; fd++)
		close(fd);
	check_works(kqueue());
	/* Nor is the number taken for the control descriptor when it is something else's. */
	for (fd = 3; fd < 1024; fd++)
		close(fd);
	for (fd = 3; fd < 128; fd++) {
		other = open("/dev/null", O_RDONLY);
		CHECK(other == fd);
	}
	check_works(kqueue());
	CHECK(fcntl(64, F_GETFD) == 0 && !is_kqueue(64));
}

/* Where there is no /dev, neither for root nor for nobody, nor for their children. */
static void after_chroot(void)
{
	char empty[] = "/dev/shm/kqueue-empty.XXXXXX";
	int before = kqueue();

	CHECK(mkdtemp(empty) && chmod(empty, 0755) == 0);
	CHECK(chroot(empty) == 0 && chdir("/") == 0);
	CHECK(access("/dev/kqueue", F_OK) == -1 && errno == ENOENT);
	CHECK(setgid(65534) == 0 && setuid(65534) == 0);
	check_works(kqueue());
	check_works(before);
	CHECK(close(before) == 0);
	check_works(kqueue());
	if (fork() == 0) {
		check_works(kqueue());
		_exit(0);
	}
	wait(&before);
	CHECK(before == 0);
}

/* A child makes its own, also when the parent, who opened the device, is gone. */
static void after_fork(void)
{
	struct timespec zero = { 0, 0 };
	struct kevent event;
	int kq = kqueue(), pipes[2], status = 1;
	char byte = 1;
	pid_t pid;

	CHECK(pipe(pipes) == 0);
	pid = fork();
	if (pid == 0) {
		pid_t parent = getpid(), orphan = fork();

		if (orphan == 0) {
			while (getppid() == parent)
				usleep(1000);
			CHECK(kevent(kq, NULL, 0, &event, 1, &zero) == -1 && errno == EBADF);
			check_works(kqueue());
			CHECK(write(pipes[1], &byte, 1) == 1);
			_exit(0);
		}
		_exit(orphan < 0);
	}
	check_child(pid);
	CHECK(close(pipes[1]) == 0);
	CHECK(read(pipes[0], &status, 1) == 1);
	CHECK(close(kq) == 0);
}

static void *make_many(void *failed)
{
	int i;

	for (i = 0; i < 500; i++) {
		int kq = kqueue();

		if (kq < 0 || close(kq))
			*(int *)failed = 1;
	}
	return NULL;
}

/* The first calls of eight threads at once leave one control descriptor. */
static void threads(void)
{
	pthread_t thread[8];
	int failed = 0, i, fd, found = 0;

	for (fd = 3; fd < 1024; fd++)
		close(fd);
	for (i = 0; i < 8; i++)
		CHECK(pthread_create(&thread[i], NULL, make_many, &failed) == 0);
	for (i = 0; i < 8; i++)
		CHECK(pthread_join(thread[i], NULL) == 0);
	CHECK(!failed);
	for (fd = 3; fd < 1024; fd++)
		found += is_kqueue(fd);
	CHECK(found == 1);
}

static volatile sig_atomic_t from_handler;

static void handler(int signal)
{
	int kq = kqueue();

	(void)signal;
	from_handler += kq >= 0 && close(kq) == 0;
}

static void signal_handler(void)
{
	struct sigaction action;
	int i;

	close(kqueue());
	memset(&action, 0, sizeof(action));
	action.sa_handler = handler;
	CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
	for (i = 0; i < 100; i++)
		CHECK(raise(SIGUSR1) == 0);
	CHECK(from_handler == 100);
}

static int cleaned;

static void clean(void *unused)
{
	(void)unused;
	cleaned++;
}

static void *wait_for_ever(void *kq)
{
	struct kevent event;

	pthread_cleanup_push(clean, NULL);
	kevent(*(int *)kq, NULL, 0, &event, 1, NULL);
	pthread_cleanup_pop(0);
	return NULL;
}

static void *cancel_pending(void *kq)
{
	struct timespec zero = { 0, 0 };
	struct kevent event;
	int state, n;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	pthread_cancel(pthread_self());
	n = kevent(*(int *)kq, NULL, 0, &event, 1, &zero);
	if (n != 0)
		return NULL;
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
	pthread_cleanup_push(clean, NULL);
	kevent(*(int *)kq, NULL, 0, &event, 1, &zero);
	pthread_cleanup_pop(0);
	return NULL;
}

/* kevent() is a cancellation point, asleep or not; the kqueue works on. */
static void cancellation(void)
{
	pthread_t thread;
	void *result;
	int kq = kqueue(), i;

	for (i = 0; i < 20; i++) {
		CHECK(pthread_create(&thread, NULL, wait_for_ever, &kq) == 0);
		/* Before it sleeps, and while it does. */
		if (i % 2)
			usleep(20000);
		CHECK(pthread_cancel(thread) == 0);
		CHECK(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
	}
	CHECK(pthread_create(&thread, NULL, cancel_pending, &kq) == 0);
	CHECK(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
	CHECK(cleaned >= 11 && cleaned <= 21);
	check_works(kq);
}

/* All of a timeout counts, as large as struct timespec may be. */
static void timeouts(void)
{
	struct timespec before, after, half = { 0, 500000000 };
	struct kevent event;
	int kq = kqueue();

	CHECK(kq >= 0);
	CHECK(clock_gettime(CLOCK_MONOTONIC, &before) == 0);
	CHECK(kevent(kq, NULL, 0, &event, 1, &half) == 0);
	CHECK(clock_gettime(CLOCK_MONOTONIC, &after) == 0);
	CHECK((after.tv_sec - before.tv_sec) * 1000L + (after.tv_nsec - before.tv_nsec) / 1000000 >= 499);
	half.tv_nsec = 1000000000;
	CHECK(kevent(kq, NULL, 0, &event, 1, &half) == -1 && errno == EINVAL);
	half.tv_nsec = -1;
	CHECK(kevent(kq, NULL, 0, &event, 1, &half) == -1 && errno == EINVAL);
}

/* What the kernel says of the ioctl itself. */
static void ioctls(void)
{
	int device = open("/dev/kqueue", O_RDWR), kq;

	CHECK(device >= 0);
	CHECK(ioctl(device, KQUEUE_IOC_CREATE, O_APPEND) == -1 && errno == EINVAL);
	CHECK(ioctl(device, KQUEUE_IOC_CREATE, -1L) == -1 && errno == EINVAL);
	kq = ioctl(device, KQUEUE_IOC_CREATE, 0);
	CHECK(kq >= 0 && close(device) == 0);
	check_works(kq);
	/* One that was made so makes more. */
	check_works(ioctl(kq, KQUEUE_IOC_CREATE, O_CLOEXEC));
	CHECK(ioctl(kq, _IO(KQUEUE_IOC_MAGIC, 2), 0) == -1 && errno == ENOTTY);
}

/* Without a device a kqueue cannot be had, and nothing worse happens. */
static void without_device(void)
{
	char empty[] = "/dev/shm/kqueue-none.XXXXXX";
	int fd;

	CHECK(mkdtemp(empty) && chroot(empty) == 0);
	for (fd = 3; fd < 1024; fd++)
		close(fd);
	CHECK(kqueue() == -1 && errno == ENOENT);
	CHECK(kevent(-1, NULL, 0, NULL, 0, NULL) == -1 && errno == EBADF);
	CHECK(kevent(0, NULL, 0, NULL, 0, NULL) == -1 && (errno == ENOTTY || errno == EINVAL));
}

int main(void)
{
	void (*const tests[])(void) = {
		numbers, timeouts, no_descriptors_left, all_closed, after_chroot, after_fork, threads,
		signal_handler, cancellation, ioctls, without_device,
	};
	size_t i;

	for (i = 0; i < sizeof(tests) / sizeof(*tests); i++) {
		pid_t pid = fork();

		if (pid == 0) {
			alarm(120);
			tests[i]();
			exit(0);
		}
		check_child(pid);
	}
	return 0;
}
