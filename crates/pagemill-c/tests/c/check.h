/* What the C tests share. */
#ifndef CHECK_H
#define CHECK_H

#include <pagemill.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ends the test unless the condition holds, also with NDEBUG. */
#define CHECK(condition)                                                              \
	do {                                                                          \
		if (!(condition)) {                                                   \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			exit(1);                                                      \
		}                                                                     \
	} while (0)

#endif
