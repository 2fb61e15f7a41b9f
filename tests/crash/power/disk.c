/* Notes what a process does to the files of a database, so that a test can tell what a power cut would have left of them.
 *
 * To be preloaded. DISK_FILE names the database. What changes it, its -wal and its -journal, and each sync of these and
 * of their folder, is written to the end of DISK_JOURNAL, in the order in which it takes effect: changes before they
 * are made, for they may be lost anyway; syncs once they have succeeded. So only what the last record says may not have
 * happened. What is mapped (the -shm) is memory, and ends with the power. After DISK_STEPS records, if that is not 0,
 * the process kills itself. Without DISK_JOURNAL all is as ever.
 *
 * SQLite calls no other function that changes a file; whether that is so the test checks at each cut.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { WRITTEN, TRUNCATED, SYNCED, UNLINKED };
enum file { DATABASE, WAL, JOURNAL, FOLDER, OTHER };

struct record {
	uint32_t kind, file;
	uint64_t offset, length; /* WRITTEN: of the bytes that follow; TRUNCATED: the length that is left */
};

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

static void fail(const char *doing)
{
	fprintf(stderr, "disk: %s: %s\n", doing, strerror(errno));
	abort();
}

static void *real(const char *name)
{
	void *function = dlsym(RTLD_NEXT, name);
	if (!function)
		fail(name);
	return function;
}

static enum file file_named(const char *path)
{
	const char *database = getenv("DISK_FILE");
	if (!database || !getenv("DISK_JOURNAL"))
		return OTHER;
	size_t length = strlen(database), folder_length = strrchr(database, '/') - database;
	if (strlen(path) == folder_length && !strncmp(path, database, folder_length))
		return FOLDER;
	if (strncmp(path, database, length))
		return OTHER;
	const char *suffix = path + length;
	return !*suffix ? DATABASE : !strcmp(suffix, "-wal") ? WAL : !strcmp(suffix, "-journal") ? JOURNAL : OTHER;
}

static enum file file_open_as(int descriptor)
{
	char link[32], path[4096];
	snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
	ssize_t length = readlink(link, path, sizeof path - 1);
	if (length < 0)
		return OTHER;
	path[length] = 0;
	return file_named(path);
}

/* The caller has the turn. */
static void note(enum kind kind, enum file file, uint64_t offset, uint64_t length, const void *data)
{
	static int journal = -1;
	static long steps;
	if (journal < 0) {
		const char *limit = getenv("DISK_STEPS");
		steps = limit ? atol(limit) : 0;
		journal = open(getenv("DISK_JOURNAL"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		if (journal < 0)
			fail("open the journal");
	}
	struct record record = { kind, file, offset, length };
	struct iovec parts[] = { { &record, sizeof record }, { (void *)data, data ? length : 0 } };
	if (writev(journal, parts, 2) != (ssize_t)(parts[0].iov_len + parts[1].iov_len))
		fail("write the journal");
	if (steps && !--steps)
		kill(getpid(), SIGKILL);
}

static ssize_t noted_write(const char *name, int descriptor, const void *data, size_t length, off_t offset)
{
	ssize_t (*call)(int, const void *, size_t, off_t) = real(name);
	enum file file = file_open_as(descriptor);
	if (file == OTHER)
		return call(descriptor, data, length, offset);
	pthread_mutex_lock(&turn);
	note(WRITTEN, file, offset, length, data);
	if (call(descriptor, data, length, offset) != (ssize_t)length)
		fail(name);
	pthread_mutex_unlock(&turn);
	return length;
}

static int noted_truncate(const char *name, int descriptor, off_t length)
{
	int (*call)(int, off_t) = real(name);
	enum file file = file_open_as(descriptor);
	if (file == OTHER)
		return call(descriptor, length);
	pthread_mutex_lock(&turn);
	note(TRUNCATED, file, 0, length, NULL);
	if (call(descriptor, length))
		fail(name);
	pthread_mutex_unlock(&turn);
	return 0;
}

static int noted_sync(const char *name, int descriptor)
{
	int (*call)(int) = real(name);
	enum file file = file_open_as(descriptor);
	if (file == OTHER)
		return call(descriptor);
	pthread_mutex_lock(&turn);
	if (call(descriptor))
		fail(name);
	note(SYNCED, file, 0, 0, NULL);
	pthread_mutex_unlock(&turn);
	return 0;
}

ssize_t pwrite(int descriptor, const void *data, size_t length, off_t offset)
{
	return noted_write("pwrite", descriptor, data, length, offset);
}

ssize_t pwrite64(int descriptor, const void *data, size_t length, off64_t offset)
{
	return noted_write("pwrite64", descriptor, data, length, offset);
}

int ftruncate(int descriptor, off_t length)
{
	return noted_truncate("ftruncate", descriptor, length);
}

int ftruncate64(int descriptor, off64_t length)
{
	return noted_truncate("ftruncate64", descriptor, length);
}

int fsync(int descriptor)
{
	return noted_sync("fsync", descriptor);
}

int fdatasync(int descriptor)
{
	return noted_sync("fdatasync", descriptor);
}

int unlink(const char *path)
{
	int (*call)(const char *) = real("unlink");
	enum file file = file_named(path);
	if (file == OTHER)
		return call(path);
	pthread_mutex_lock(&turn);
	note(UNLINKED, file, 0, 0, NULL);
	int result = call(path), error = errno;
	pthread_mutex_unlock(&turn);
	errno = error;
	return result;
}
