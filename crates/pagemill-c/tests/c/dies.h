/* Tests of calls that end the program: each runs in a child, and must write one line and end by SIGABRT. */
#ifndef DIES_H
#define DIES_H

#include <signal.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define RUN_CASE(statement, text)                 \
	if (number++ == wanted) {                 \
		(void)(statement);                \
		fprintf(stderr, "it returned\n"); \
		_exit(3);                         \
	}
#define COUNT_CASE(statement, text) failed += !dies(number++, start, #statement, text);

/* Defines all_cases_die() for a list of cases: CASES(X) has X(statement, what the line contains) for each. Each runs
 * after set_up(). The result is the exit status of the test. */
#define RUN_CASES(CASES)                                                 \
	static void run(int wanted)                                      \
	{                                                                \
		int number = 0;                                          \
                                                                         \
		CASES(RUN_CASE)                                          \
	}                                                                \
                                                                         \
	static int all_cases_die(const char *start)                      \
	{                                                                \
		int number = 0, failed = 0;                              \
                                                                         \
		CASES(COUNT_CASE)                                        \
		printf("%d wrong calls, %d not found\n", number, failed); \
		return failed != 0;                                      \
	}

static void set_up(void);
static void run(int wanted);

/* Runs a case in a child and returns whether it ended as expected, with a line that begins with start. */
static int dies(int wanted, const char *start, const char *statement, const char *text)
{
	static char line[2048];
	size_t len = 0;
	ssize_t got;
	int ends[2], status;

	CHECK(pipe(ends) == 0);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		dup2(ends[1], 2);
		close(ends[0]);
		close(ends[1]);
		set_up();
		run(wanted);
		_exit(4);
	}
	close(ends[1]);
	while ((got = read(ends[0], line + len, sizeof line - 1 - len)) > 0)
		len += (size_t)got;
	line[len] = '\0';
	close(ends[0]);
	CHECK(waitpid(child, &status, 0) == child);
	char *end = strchr(line, '\n');
	int is_line = end && end[1] == '\0' && strncmp(line, start, strlen(start)) == 0;
	/* Names of Rust mean nothing to a caller in C. */
	int is_rust = strstr(line, "::") || strstr(line, ".rs");
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && is_line && !is_rust && strstr(line, text))
		return 1;
	fprintf(stderr, "%s: status %#x, expected \"%s\", got:\n%s", statement, (unsigned)status, text, line);
	return 0;
}

#endif
