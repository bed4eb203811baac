/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A server of the careful kind: it opens what it needs, then gives up all else. It goes where there
 * are no files, not even /dev/kqueue, and becomes nobody; its workers, which it forks there, make
 * kqueues all the same, since the library has kept a descriptor to make them from.
 */
#include <sys/event.h>
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS 3

/* Answers one request with its double. */
static int work(int requests, int answers)
{
	struct kevent change, event;
	int kq = kqueue();
	int number;

	if (kq < 0)
		err(1, "kqueue");
	EV_SET(&change, requests, EVFILT_READ, EV_ADD, 0, 0, NULL);
	if (kevent(kq, &change, 1, &event, 1, NULL) != 1)
		err(1, "kevent");
	if (event.data < (int64_t)sizeof(number) || read(requests, &number, sizeof(number)) < 0)
		errx(1, "no request");
	number *= 2;
	return write(answers, &number, sizeof(number)) != sizeof(number);
}

int main(int argc, char **argv)
{
	struct kevent change, event;
	int answers[2], requests[WORKERS][2];
	int kq, i, number, sum = 0;

	if (argc != 2)
		errx(1, "usage: sandbox EMPTY-DIRECTORY, as root");
	kq = kqueue();
	if (kq < 0)
		err(1, "kqueue: is the module loaded?");
	if (chroot(argv[1]) || chdir("/") || setgid(65534) || setuid(65534))
		err(1, "%s", argv[1]);
	if (access("/dev/kqueue", F_OK) == 0)
		errx(1, "%s is not empty", argv[1]);

	if (pipe(answers))
		err(1, "pipe");
	EV_SET(&change, answers[0], EVFILT_READ, EV_ADD, 0, 0, NULL);
	if (kevent(kq, &change, 1, NULL, 0, NULL))
		err(1, "kevent");
	for (i = 0; i < WORKERS; i++) {
		pid_t pid;

		if (pipe(requests[i]))
			err(1, "pipe");
		pid = fork();
		if (pid < 0)
			err(1, "fork");
		if (pid == 0)
			_exit(work(requests[i][0], answers[1]));
		EV_SET(&change, pid, EVFILT_PROC, EV_ADD, NOTE_EXIT, 0, NULL);
		if (kevent(kq, &change, 1, NULL, 0, NULL))
			err(1, "kevent");
		number = i + 1;
		if (write(requests[i][1], &number, sizeof(number)) < 0)
			err(1, "write");
	}
	for (i = 0; i < WORKERS;) {
		if (kevent(kq, NULL, 0, &event, 1, NULL) != 1)
			err(1, "kevent");
		if (event.filter == EVFILT_PROC) {
			i++;
			if (event.data)
				errx(1, "worker %d: status %d", (int)event.ident, (int)event.data);
		} else if (read(answers[0], &number, sizeof(number)) == sizeof(number)) {
			sum += number;
		}
	}
	while (kevent(kq, NULL, 0, &event, 1, &(struct timespec){ 0, 0 }) == 1) {
		if (read(answers[0], &number, sizeof(number)) == sizeof(number))
			sum += number;
	}
	while (wait(NULL) > 0)
		;
	printf("%d workers, answers %d\n", WORKERS, sum);
	return sum != WORKERS * (WORKERS + 1);
}
