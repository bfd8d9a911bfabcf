/* Preloaded into a labeller: the n-th write, fsync or rename below a folder does not happen.

   TFKD_FAULT_FOLDER  absolute path; operations elsewhere are left alone
   TFKD_FAULT_AT      n, from 1: the operations from the n-th on fail, as on a disk that stays full;
                      counted anew where the folder changes
   TFKD_FAULT         errno of the failure; 0: the process is killed instead
   TFKD_FAULT_LOG     file to which the name of each operation is added
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int operations;
static char counted_folder[PATH_MAX + 1];

static void note(const char *operation)
{
    static ssize_t (*next_write)(int, const void *, size_t);
    if (next_write == NULL)
        next_write = dlsym(RTLD_NEXT, "write");
    int log = open(getenv("TFKD_FAULT_LOG"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    next_write(log, operation, strlen(operation));
    next_write(log, "\n", 1);
    close(log);
}

static int is_refused(const char *operation, const char *path)
{
    const char *folder = getenv("TFKD_FAULT_FOLDER");
    if (folder == NULL || strncmp(path, folder, strlen(folder)) != 0)
        return 0;
    note(operation);
    if (strcmp(counted_folder, folder) != 0) {
        strncpy(counted_folder, folder, PATH_MAX);
        operations = 0;
    }
    if (++operations < atoi(getenv("TFKD_FAULT_AT")))
        return 0;
    int code = atoi(getenv("TFKD_FAULT"));
    if (code == 0)
        kill(getpid(), SIGKILL);
    errno = code;
    return 1;
}

static int is_refused_at(const char *operation, int descriptor)
{
    char link[64], path[PATH_MAX + 1] = "";
    if (getenv("TFKD_FAULT_FOLDER") == NULL)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    if (readlink(link, path, PATH_MAX) < 0)
        return 0;
    return is_refused(operation, path);
}

ssize_t write(int descriptor, const void *data, size_t count)
{
    static ssize_t (*next)(int, const void *, size_t);
    if (next == NULL)
        next = dlsym(RTLD_NEXT, "write");
    return is_refused_at("write", descriptor) ? -1 : next(descriptor, data, count);
}

int fsync(int descriptor)
{
    static int (*next)(int);
    if (next == NULL)
        next = dlsym(RTLD_NEXT, "fsync");
    return is_refused_at("fsync", descriptor) ? -1 : next(descriptor);
}

int rename(const char *from, const char *to)
{
    static int (*next)(const char *, const char *);
    if (next == NULL)
        next = dlsym(RTLD_NEXT, "rename");
    return is_refused("rename", to) ? -1 : next(from, to);
}
