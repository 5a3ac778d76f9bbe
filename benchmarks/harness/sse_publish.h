/* The publisher: a thread with `connections` requests in flight, each waiting for its reply.
 *
 * Event n is `@nnnnnnnnnn ttttttttttttttttttt` and filler: its number, and when it was sent, or was
 * due (paced), in nanoseconds of the monotonic clock.
 */
#pragma once
#include "sse_link.h"
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#define MARK_BYTES 31
#define REPLY_NS 10000000000LL /* no reply comes after that */

struct publishing {
    struct place to;
    const char *path;
    const char *headers; /* each with its CRLF */
    int connections;
    int events;
    int bytes;
    double rate;   /* events a second; 0: as fast as replies come */
    int lockstep;  /* send no event before all subscribers have those before it */
    int wake_fd;   /* written to when all have one more */
    volatile int everywhere;
    int persists;  /* send again what got no reply, under the same idempotency key */
    int64_t *sent_ns;
    uint32_t *reply_us;
    volatile int done;
    volatile int failures;
    volatile int published;
    int64_t began_ns, ended_ns;
    char reason[200];  /* of the first failure */
    char refused[200]; /* the last answer of that kind */
};

struct publisher {
    struct link link;
    int event; /* in flight; -1: none */
    int open;
    int again; /* the event must be sent once more */
    int64_t not_before_ns;
    int64_t asked_ns;
    size_t have;
    char answer[16384];
};

static char *publish_request(struct publishing *p, int event, size_t *size) {
    static char *buffer;
    size_t room = (size_t)p->bytes + 4096;
    if (!buffer) buffer = malloc(room);
    int head = snprintf(buffer, room,
                        "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
                        "Content-Length: %d\r\n",
                        p->path, p->bytes);
    if (p->persists)
        head += snprintf(buffer + head, room - (size_t)head, "Idempotency-Key: %lld-%d\r\n",
                         (long long)p->began_ns, event);
    head += snprintf(buffer + head, room - (size_t)head, "%s\r\n", p->headers);
    memset(buffer + head, 'x', (size_t)p->bytes);
    char mark[MARK_BYTES + 1];
    snprintf(mark, sizeof mark, "@%010d %019lld", event, (long long)p->sent_ns[event]);
    memcpy(buffer + head, mark, MARK_BYTES);
    *size = (size_t)(head + p->bytes);
    return buffer;
}

/* Status of a whole answer in the buffer, which it then leaves; 0 while it is not whole. */
static int publish_answer(struct publishing *p, struct publisher *one) {
    char *end = memmem(one->answer, one->have, "\r\n\r\n", 4);
    if (!end) return 0;
    *end = 0;
    char *length = strcasestr(one->answer, "\r\ncontent-length:");
    size_t whole = (size_t)(end - one->answer) + 4 + (length ? (size_t)atol(length + 17) : 0);
    *end = '\r';
    if (one->have < whole) return 0;
    int status = atoi(one->answer + 9);
    if (status > 299)
        snprintf(p->refused, sizeof p->refused, "%d %.*s", status,
                 (int)(one->answer + whole - end - 4), end + 4);
    memmove(one->answer, one->answer + whole, one->have - whole);
    one->have -= whole;
    return status;
}

static void publish_failed(struct publishing *p, struct publisher *one, const char *why) {
    if (!p->failures) snprintf(p->reason, sizeof p->reason, "%.190s", why);
    p->failures++;
    for (char *c = p->reason; *c; c++)
        if ((unsigned char)*c < ' ' || *c == '"' || *c == '\\') *c = ' ';
    if (p->persists && one->event >= 0) {
        one->again = 1;
        one->not_before_ns = now_ns() + 100000000;
    } else {
        one->event = -1;
        if (p->failures > 10) p->events = 0; /* nothing comes of it: end the run */
    }
}

static void publish_lost(struct publishing *p, struct publisher *one, const char *why) {
    link_close(&one->link);
    one->open = 0;
    one->have = 0;
    if (one->event >= 0) publish_failed(p, one, why);
}

static void publish_dial(struct publishing *p, struct publisher *one, int poll, int number) {
    if (link_dial(&one->link, &p->to, 0) == LINK_LOST) {
        publish_lost(p, one, "cannot connect");
        return;
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.u32 = (uint32_t)number};
    epoll_ctl(poll, EPOLL_CTL_ADD, one->link.fd, &event);
}

static void publish_ready(struct publishing *p, struct publisher *one, int poll, int number) {
    if (!one->open) {
        int result = link_open(&one->link);
        if (result == LINK_LOST) {
            publish_lost(p, one, "connection refused");
            one->not_before_ns = now_ns() + 100000000;
            return;
        }
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)number};
        if (result == LINK_AGAIN && one->link.wants_write) event.events |= EPOLLOUT;
        epoll_ctl(poll, EPOLL_CTL_MOD, one->link.fd, &event);
        one->open = result == 0;
        return;
    }
    for (;;) {
        ssize_t got = link_read(&one->link, one->answer + one->have,
                                sizeof one->answer - 1 - one->have);
        if (got == LINK_AGAIN) return;
        if (got <= 0) {
            publish_lost(p, one, "connection lost");
            return;
        }
        one->have += (size_t)got;
        one->answer[one->have] = 0;
        int status = publish_answer(p, one);
        if (!status) continue;
        if (status == 503 || status == 429) {
            one->again = 1;
            one->not_before_ns = now_ns() + 1000000000; /* the Retry-After of a hub that is busy */
            continue;
        }
        if (status < 200 || status > 299) {
            one->event = -1; /* it will not be taken another time, either */
            publish_failed(p, one, p->refused);
            continue;
        }
        p->reply_us[p->published++] = (uint32_t)((now_ns() - one->asked_ns) / 1000);
        one->event = -1;
    }
}

static void *publish(void *argument) {
    struct publishing *p = argument;
    struct publisher *all = calloc((size_t)p->connections, sizeof *all);
    struct epoll_event ready[64];
    int poll = epoll_create1(EPOLL_CLOEXEC), next = 0, in_flight = 0;
    struct epoll_event wake = {.events = EPOLLIN, .data.u32 = UINT32_MAX};
    epoll_ctl(poll, EPOLL_CTL_ADD, p->wake_fd, &wake);
    for (int i = 0; i < p->connections; i++) {
        all[i].event = all[i].link.fd = -1;
        publish_dial(p, &all[i], poll, i);
    }
    do {
        int64_t now = now_ns(), wait_ns = 100000000;
        int open = 0;
        for (int i = 0; i < p->connections; i++) open += all[i].open;
        if (!p->began_ns && open == p->connections) p->began_ns = now;
        int may = p->began_ns && (!p->lockstep || p->everywhere == next);
        for (int i = 0; i < p->connections; i++) {
            struct publisher *one = &all[i];
            if (one->event >= 0 && !one->again && now - one->asked_ns > REPLY_NS)
                publish_lost(p, one, "no reply");
            if (one->link.fd < 0 && now >= one->not_before_ns) publish_dial(p, one, poll, i);
            if (may && one->event < 0 && one->open && next < p->events) {
                int64_t due = p->rate > 0 ? p->began_ns + (int64_t)(next * 1e9 / p->rate) : now;
                if (due > now) {
                    if (due - now < wait_ns) wait_ns = due - now;
                } else {
                    one->event = next++;
                    may &= !p->lockstep;
                    one->again = 1;
                    p->sent_ns[one->event] = p->rate > 0 ? due : now_ns();
                }
            }
            if (one->event >= 0 && one->again && one->open && now >= one->not_before_ns) {
                size_t size;
                char *request = publish_request(p, one->event, &size);
                one->again = 0;
                one->asked_ns = now_ns();
                if (!link_send(&one->link, request, size)) publish_lost(p, one, "cannot send");
            }
        }
        struct timespec wait = {wait_ns / 1000000000, wait_ns % 1000000000};
        int count = epoll_pwait2(poll, ready, 64, &wait, NULL);
        for (int i = 0; i < count; i++) {
            uint32_t number = ready[i].data.u32;
            eventfd_t all_have;
            if (number == UINT32_MAX) eventfd_read(p->wake_fd, &all_have);
            else publish_ready(p, &all[number], poll, (int)number);
        }
        in_flight = 0;
        for (int i = 0; i < p->connections; i++) in_flight += all[i].event >= 0;
    } while (next < p->events || in_flight);
    p->ended_ns = now_ns();
    p->done = 1;
    for (int i = 0; i < p->connections; i++) link_close(&all[i].link);
    free(all);
    close(poll);
    return NULL;
}
