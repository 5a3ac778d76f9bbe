/* Load for a server of event streams: many subscribers and a publisher, in one process.
 *
 * Every subscriber must get every event, all in one order: position k of one is held against
 * position k of all others, so that a gap, a repeat and a swap are each seen. Prints two lines of
 * JSON: {"ready": …} once all are connected, then waits for a line on standard input, publishes,
 * and prints the figures; connections stay until standard input ends. benchmarks/harness/stream_load.py
 * compiles and drives it.
 *
 *   sse_load -s HOST:PORT/PATH -p HOST:PORT/PATH -n SUBSCRIBERS -m EVENTS …
 *
 *   -s, -p  where to subscribe and to publish; "tls:" before it: by TLS
 *   -H, -h  a header of each subscription, of each publication
 *   -n, -m  subscribers; events        -b  bytes of an event's data
 *   -c      publications in flight, each on a connection of its own
 *   -r      events a second, by the clock; a late one counts from when it was due
 *   -x      stalled readers: they read the head, and nothing more
 *   -y      slow readers, of -z bytes a second
 *   -l      send each event when all subscribers have the one before
 *   -k      come back (retry: and Last-Event-ID) when a stream ends; publish until acknowledged
 *   -g      subscribe only when told to go on: replay, of events published before
 *   -w      seconds without an event or a new stream, after which it gives up
 */
#include "sse_publish.h"
#include <ctype.h>
#include <signal.h>

enum { TAIL_BYTES = 128, READ_BYTES = 1 << 18, DIALING_MAX = 256, ID_BYTES = 96 };
enum state { AWAY, CONNECTING, HEAD, STREAM };
enum kind { READER, SLOW, STALLED };
enum chunk { CHUNK_SIZE, CHUNK_REST, CHUNK_DATA, CHUNK_END };

struct subscriber {
    struct link link;
    enum state state;
    enum kind kind;
    int chunked;
    enum chunk chunk;
    long chunk_left;
    int ended;
    int next; /* how many events it has */
    int64_t due_ns, dialed_ns;
    int retry_ms;
    int tail;
    char carried[TAIL_BYTES];
    char id[ID_BYTES];
};

static struct place subscribe_to, publish_to;
static const char *subscribe_path, *publish_path = "/";
static char subscribe_headers[8192], publish_headers[8192];
static int readers, events, stalled, slow, slow_bytes_s = 1 << 19, comes_back, replays;
static double patience_s = 10;
static struct publishing publishing = {.bytes = 160, .connections = 1};

static struct subscriber *all;
static int count, poll_fd, streaming, dialing, told_to_go;
static int *order, *position, claimed, *remaining;
static int64_t delivered, gaps, repeats, strange, last_ns, moved_ns;
static int lost, refused_streams, whole;
static int64_t lost_ns, back_ns, first_dial_ns;

/* A histogram of microseconds in steps of 1/64: figures are right to 1.6 %. */
struct histogram {
    int64_t total;
    uint32_t counts[64 * 40];
};
static struct histogram deliveries, last_deliveries, replies;

static void record(struct histogram *h, int64_t us) {
    uint64_t value = us > 0 ? (uint64_t)us : 0;
    int shift = value < 64 ? 0 : 57 - __builtin_clzll(value);
    h->counts[value < 64 ? value : (uint64_t)(shift + 1) * 64 + (value >> shift) % 64]++;
    h->total++;
}

static double quantile_ms(const struct histogram *h, double q) {
    int64_t seen = 0, wanted = (int64_t)(q * (double)h->total);
    for (int i = 0; i < 64 * 40; i++) {
        seen += h->counts[i];
        if (seen > wanted)
            return (i < 64 ? i : (double)((64LL + i % 64) << (i / 64 - 1))) / 1000.0;
    }
    return 0;
}

static void watch(struct subscriber *s, uint32_t what, int operation) {
    struct epoll_event event = {.events = what, .data.u32 = (uint32_t)(s - all)};
    if (epoll_ctl(poll_fd, operation, s->link.fd, &event) < 0) fail("epoll_ctl");
}

static void leave(struct subscriber *s) {
    int64_t now = now_ns();
    if (s->state == STREAM) {
        streaming--;
        lost++;
        if (!lost_ns) lost_ns = now;
        back_ns = 0;
    } else {
        dialing--;
        refused_streams++;
    }
    link_close(&s->link);
    s->state = AWAY;
    s->due_ns = comes_back || !told_to_go ? now + (int64_t)s->retry_ms * 1000000 : INT64_MAX;
}

static void dial(struct subscriber *s) {
    int small = s->kind == READER ? 0 : 1 << 16;
    s->dialed_ns = now_ns();
    s->chunked = s->ended = s->tail = 0;
    s->chunk = CHUNK_SIZE;
    s->chunk_left = 0;
    dialing++;
    s->state = CONNECTING;
    if (link_dial(&s->link, &subscribe_to, small) == LINK_LOST) leave(s);
    else watch(s, EPOLLIN | EPOLLOUT, EPOLL_CTL_ADD);
}

static void ask(struct subscriber *s) {
    char request[16384];
    int size = snprintf(request, sizeof request,
                        "GET %s HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n%s",
                        subscribe_path, subscribe_headers);
    if (s->id[0])
        size += snprintf(request + size, sizeof request - (size_t)size, "Last-Event-ID: %s\r\n",
                         s->id);
    size += snprintf(request + size, sizeof request - (size_t)size, "\r\n");
    s->state = HEAD;
    if (!link_send(&s->link, request, (size_t)size)) leave(s);
    else watch(s, EPOLLIN, EPOLL_CTL_MOD);
}

/* One event has come, to this subscriber as its next one. */
static void take(struct subscriber *s, int event, int64_t now) {
    if (event < 0 || event >= events) {
        strange++;
        return;
    }
    if (position[event] >= 0 && position[event] < s->next) {
        repeats++;
        return;
    }
    if (position[event] < 0) {
        position[event] = claimed;
        order[claimed++] = event;
    }
    if (position[event] != s->next) gaps++;
    s->next = position[event] + 1;
    if (s->next == events) whole++;
    delivered++;
    last_ns = moved_ns = now;
    if (replays) return;
    record(&deliveries, (now - publishing.sent_ns[event]) / 1000);
    if (--remaining[event] == 0) {
        record(&last_deliveries, (now - publishing.sent_ns[event]) / 1000);
        publishing.everywhere++;
        if (publishing.lockstep) eventfd_write(publishing.wake_fd, 1);
    }
}

/* The id in the block of the event whose mark is at `at`: the last line "id: " before it. */
static void note_id(struct subscriber *s, const char *from, const char *at) {
    for (const char *c = at - 5; c >= from; c--) {
        if (memcmp(c, "\nid: ", 5)) continue;
        const char *id = c + 5, *end = memchr(id, '\n', (size_t)(at - id));
        if (!end || end - id >= ID_BYTES) return;
        memcpy(s->id, id, (size_t)(end - id));
        s->id[end - id] = 0;
        return;
    }
}

static int number(const char *digits, int many) {
    int value = 0;
    for (int i = 0; i < many; i++) {
        if (!isdigit((unsigned char)digits[i])) return -1;
        value = value * 10 + digits[i] - '0';
    }
    return value;
}

/* Take the events of a stretch of the body (without chunk framing); keep what is not whole. */
static void scan(struct subscriber *s, char *from, size_t size, int64_t now) {
    char *end = from + size, *rest = from, *at;
    while ((at = memchr(rest, '@', (size_t)(end - rest))) && at + MARK_BYTES <= end) {
        take(s, number(at + 1, 10), now);
        if (comes_back) note_id(s, from, at);
        rest = at + MARK_BYTES;
    }
    char *keep = (at ? at : end) - (TAIL_BYTES - MARK_BYTES);
    if (keep < rest) keep = rest;
    s->tail = (int)(end - keep);
    memcpy(s->carried, keep, (size_t)s->tail);
}

/* Take chunk framing out, in place; how many bytes of the body are left. */
static size_t unframe(struct subscriber *s, char *data, size_t size) {
    char *out = data, *end = data + size;
    while (data < end && !s->ended) {
        if (s->chunk == CHUNK_DATA) {
            size_t part = (size_t)(end - data);
            if (part > (size_t)s->chunk_left) part = (size_t)s->chunk_left;
            memmove(out, data, part);
            out += part;
            data += part;
            s->chunk_left -= (long)part;
            if (!s->chunk_left) s->chunk = CHUNK_END;
            continue;
        }
        char c = *data++;
        if (s->chunk == CHUNK_END) {
            if (c == '\n') s->chunk = CHUNK_SIZE;
        } else if (c == '\n') {
            s->ended = !s->chunk_left;
            s->chunk = CHUNK_DATA;
        } else if (s->chunk == CHUNK_SIZE && isxdigit((unsigned char)c)) {
            s->chunk_left = s->chunk_left * 16 + (isdigit((unsigned char)c) ? c - '0'
                                                                         : (c | 32) - 'a' + 10);
        } else {
            s->chunk = CHUNK_REST;
        }
    }
    return (size_t)(out - (end - size));
}

static void joined(struct subscriber *s, const char *head) {
    s->state = STREAM;
    s->chunked = strcasestr(head, "\r\ntransfer-encoding: chunked") != NULL;
    streaming++;
    dialing--;
    moved_ns = now_ns();
    if (lost_ns && streaming == count) back_ns = moved_ns;
    if (s->kind != READER) epoll_ctl(poll_fd, EPOLL_CTL_DEL, s->link.fd, NULL);
}

/* Bytes have come; 0 when the connection is no more. */
static int digest(struct subscriber *s, char *data, size_t size) {
    int64_t now = now_ns();
    if (s->state == HEAD) {
        /* servers send a head whole; one in pieces counts as none */
        char *end = memmem(data, size, "\r\n\r\n", 4);
        if (!end || memcmp(data, "HTTP/1.1 200", 12)) {
            static int told;
            if (told++ < 3) fprintf(stderr, "sse_load: no stream: %.*s\n", (int)size, data);
            leave(s);
            return 0;
        }
        *end = 0;
        joined(s, data);
        size -= (size_t)(end + 4 - data);
        data = end + 4;
        char *retry = memmem(data, size < 1024 ? size : 1024, "retry: ", 7);
        if (retry) s->retry_ms = atoi(retry + 7);
    }
    if (s->chunked) size = unframe(s, data, size);
    memcpy(data - s->tail, s->carried, (size_t)s->tail);
    scan(s, data - s->tail, size + (size_t)s->tail, now);
    if (s->ended) leave(s);
    return !s->ended;
}

static void hear(struct subscriber *s, size_t at_most) {
    static char buffer[TAIL_BYTES + READ_BYTES + 1];
    for (;;) {
        size_t room = at_most < READ_BYTES ? at_most : READ_BYTES;
        ssize_t got = link_read(&s->link, buffer + TAIL_BYTES, room);
        if (got == LINK_AGAIN) return;
        if (got <= 0) {
            leave(s);
            return;
        }
        buffer[TAIL_BYTES + got] = 0;
        if (!digest(s, buffer + TAIL_BYTES, (size_t)got) || s->kind != READER) return;
#ifdef WITH_TLS
        if (s->link.tls) continue; /* what OpenSSL holds wakes no epoll */
#endif
        if ((size_t)got < room) return;
    }
}

static void ready(struct subscriber *s) {
    if (s->state == CONNECTING) {
        int result = link_open(&s->link);
        if (result == LINK_LOST) leave(s);
        else if (result == 0) ask(s);
        else watch(s, s->link.wants_write ? EPOLLIN | EPOLLOUT : EPOLLIN, EPOLL_CTL_MOD);
    } else if (s->state != AWAY) {
        hear(s, READ_BYTES);
    }
}

/* What happens by the clock: connecting, and slow readers. */
static void tick(int64_t now) {
    static int64_t slow_ns;
    if (replays && !told_to_go) return;
    for (int i = 0; i < count && dialing < DIALING_MAX; i++)
        if (all[i].state == AWAY && now >= all[i].due_ns) dial(&all[i]);
    for (int i = 0; i < count; i++)
        if ((all[i].state == CONNECTING || all[i].state == HEAD) &&
            now - all[i].dialed_ns > 10000000000LL)
            leave(&all[i]);
    if (now - slow_ns < 50000000) return;
    slow_ns = now;
    for (int i = readers; i < count; i++)
        if (all[i].kind == SLOW && all[i].state == STREAM) hear(&all[i], (size_t)slow_bytes_s / 20);
}

/* Wait for what the network brings; 1 when standard input says something. */
static int turn(void) {
    struct epoll_event happened[512];
    int said = 0, waiting = streaming < count || slow;
    int many = epoll_wait(poll_fd, happened, 512, waiting ? 5 : 100);
    for (int i = 0; i < many; i++) {
        if (happened[i].data.u32 == UINT32_MAX) said = 1;
        else ready(&all[happened[i].data.u32]);
    }
    static int64_t ticked;
    int64_t now = now_ns();
    if (waiting && now - ticked > 4000000) {
        ticked = now;
        tick(now);
    }
    return said;
}

static void parse_place(char *text, struct place *place, const char **path) {
    if (!strncmp(text, "tls:", 4)) {
        place->tls = 1;
        text += 4;
    }
    char *colon = strchr(text, ':'), *slash = strchr(text, '/');
    if (!colon || !slash || slash < colon) refuse("a place is HOST:PORT/PATH");
    *path = strdup(slash);
    *colon = 0;
    place->port = atoi(colon + 1);
    if (!inet_aton(text, &place->host)) refuse("a host is an IPv4 address");
}

static void add_header(char *headers, const char *line) {
    size_t size = strlen(headers);
    snprintf(headers + size, 8192 - size, "%s\r\n", line);
}

static void parse(int argc, char **argv) {
    for (int c; (c = getopt(argc, argv, "s:p:H:h:n:m:b:c:r:x:y:z:lkgw:")) != -1;) switch (c) {
            case 's': parse_place(optarg, &subscribe_to, &subscribe_path); break;
            case 'p': parse_place(optarg, &publish_to, &publish_path); break;
            case 'H': add_header(subscribe_headers, optarg); break;
            case 'h': add_header(publish_headers, optarg); break;
            case 'n': readers = atoi(optarg); break;
            case 'm': events = atoi(optarg); break;
            case 'b': publishing.bytes = atoi(optarg); break;
            case 'c': publishing.connections = atoi(optarg); break;
            case 'r': publishing.rate = atof(optarg); break;
            case 'x': stalled = atoi(optarg); break;
            case 'y': slow = atoi(optarg); break;
            case 'z': slow_bytes_s = atoi(optarg); break;
            case 'l': publishing.lockstep = 1; break;
            case 'k': comes_back = 1; break;
            case 'g': replays = 1; break;
            case 'w': patience_s = atof(optarg); break;
            default: exit(2);
        }
    if (publishing.bytes < MARK_BYTES) refuse("an event has at least 31 bytes");
    if (publishing.connections < 1) refuse("at least one publication is in flight");
    if (!subscribe_path && readers + stalled + slow) refuse("-s is missing");
    link_prepare(subscribe_to.tls || publish_to.tls);
}

static void prepare(void) {
    count = readers + slow + stalled;
    all = calloc((size_t)count + 1, sizeof *all);
    for (int i = 0; i < count; i++) {
        all[i].kind = i < readers ? READER : i < readers + slow ? SLOW : STALLED;
        all[i].retry_ms = 1000;
        all[i].link.fd = -1;
    }
    size_t many = (size_t)events + 1;
    order = calloc(many, sizeof *order);
    position = malloc(many * sizeof *position);
    remaining = malloc(many * sizeof *remaining);
    for (size_t i = 0; i < many; i++) {
        position[i] = -1;
        remaining[i] = readers + slow;
    }
    publishing.sent_ns = calloc(many, sizeof *publishing.sent_ns);
    publishing.reply_us = calloc(many, sizeof *publishing.reply_us);
    publishing.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    publishing.to = publish_to;
    publishing.path = publish_path;
    publishing.headers = publish_headers;
    publishing.events = events;
    publishing.persists = comes_back;
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event input = {.events = EPOLLIN, .data.u32 = UINT32_MAX};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &input);
}

/* 1 for a line on standard input, 0 at its end. */
static int line(void) {
    char text[256];
    return read(STDIN_FILENO, text, sizeof text) > 0;
}

static void report(void) {
    double elapsed_s = (double)(last_ns - (replays ? first_dial_ns : publishing.began_ns)) / 1e9;
    double publish_s = (double)(publishing.ended_ns - publishing.began_ns) / 1e9;
    for (int i = 0; i < publishing.published; i++) record(&replies, publishing.reply_us[i]);
    printf("{\"delivered\": %lld, \"expected\": %lld, \"elapsed_s\": %.6f, \"gaps\": %lld, "
           "\"repeats\": %lld, \"strange\": %lld, ",
           (long long)delivered, (long long)events * (readers + slow), elapsed_s, (long long)gaps,
           (long long)repeats, (long long)strange);
    printf("\"p50_ms\": %.3f, \"p99_ms\": %.3f, \"last_p99_ms\": %.3f, ",
           quantile_ms(&deliveries, 0.5), quantile_ms(&deliveries, 0.99),
           quantile_ms(&last_deliveries, 0.99));
    printf("\"published\": %d, \"publish_s\": %.6f, \"publish_failures\": %d, "
           "\"reason\": \"%s\", \"reply_p99_ms\": %.3f, ",
           publishing.published, publish_s, publishing.failures, publishing.reason,
           quantile_ms(&replies, 0.99));
    printf("\"lost\": %d, \"refused\": %d, \"back_s\": %.3f}\n", lost, refused_streams,
           lost_ns && back_ns ? (double)(back_ns - lost_ns) / 1e9 : -1.0);
    fflush(stdout);
}

static int patient(void) { return (double)(now_ns() - moved_ns) / 1e9 < patience_s; }

int main(int argc, char **argv) {
    parse(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    prepare();
    first_dial_ns = moved_ns = now_ns();
    while (!replays && streaming < count && patient()) turn();
    if (!replays && streaming < count) refuse("not all subscribers could connect");
    printf("{\"ready_s\": %.6f}\n", (double)(now_ns() - first_dial_ns) / 1e9);
    fflush(stdout);
    while (!turn()) continue;
    if (!line()) return 0;

    told_to_go = 1;
    refused_streams = 0;
    pthread_t thread;
    first_dial_ns = moved_ns = now_ns();
    publishing.done = replays || !events;
    if (!publishing.done && pthread_create(&thread, NULL, publish, &publishing)) fail("thread");
    while (!(publishing.done && whole == readers + slow) && (patient() || !publishing.done))
        if (turn() && !line()) return 0;
    report();
    for (;;)
        if (turn() && !line()) return 0;
}
