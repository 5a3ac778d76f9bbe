/* A run of packets to many viewers: header, SRTP, sendmmsg. native.py says what the fields mean,
 * plain.py does the same in Python, numbering.py tells why numbers are remembered, runs.py what a
 * run is. Nothing here allocates, blocks or keeps anything between calls but what is in the legs. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#define LAYOUT 2 /* count up with each change of struct leg or of a function's arguments */
#define BATCH 64 /* packets to the kernel at a time */
#define RUN 16    /* of one message, at most */
#define HEADER_BYTES 12
#define EXTENSION_BYTES 8
#define PAYLOAD_BYTES_MAX 1460
#define TRAILER_BYTES_MAX 144
#define PACKET_BYTES (HEADER_BYTES + EXTENSION_BYTES + PAYLOAD_BYTES_MAX + TRAILER_BYTES_MAX)
#define REMEMBERED 1024
#define UNAMBIGUOUS 32768
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103 /* Linux 4.18 */
#endif

/* srtp_protect; it wants packets aligned to four bytes */
typedef int (*protect_function)(void *session, void *packet, int *bytes);

struct sent {
    uint32_t lap; /* index / REMEMBERED + 1; 0: nothing */
    uint32_t timestamp, send_time;
};

struct leg {
    void *session;
    uint64_t packets, octets, dropped;
    uint64_t next;  /* the highest index used, and 1 */
    uint64_t floor; /* lower indices were used before the last rebase */
    uint32_t ssrc, timestamp_offset;
    uint16_t sequence_offset;
    uint8_t payload_type, send_time_id;
    uint32_t address_bytes;
    uint8_t address[sizeof(struct sockaddr_in6)];
    struct sent sent[REMEMBERED];
};

struct packet {
    uint32_t sequence, timestamp, send_time, payload_bytes; /* the first two modulo 2^32 */
    const uint8_t *payload;
    uint8_t marker;
};

static void put32(uint8_t *out, uint32_t value) {
    out[0] = (uint8_t)(value >> 24), out[1] = (uint8_t)(value >> 16);
    out[2] = (uint8_t)(value >> 8), out[3] = (uint8_t)value;
}

/* A number with its rollover counter, as libsrtp tells it (RFC 3711, 3.3.1). */
static uint64_t index_of(const struct leg *leg, uint16_t number) {
    if (leg->next <= UNAMBIGUOUS + 1) return number;
    uint64_t highest = leg->next - 1;
    return highest + (int16_t)(number - (uint16_t)highest);
}

/* What was sent under a number, or is now; NULL if that is not known. */
static const struct sent *use(struct leg *leg, uint16_t number, const struct packet *packet) {
    uint64_t index = index_of(leg, number);
    if (index < leg->floor || index + REMEMBERED < leg->next) return NULL;
    /* of before the first one, to other SRTP implementations (see numbering.py) */
    if (leg->next > 0 && index >= leg->next - 1 + UNAMBIGUOUS) return NULL;
    struct sent *sent = &leg->sent[index % REMEMBERED];
    uint32_t lap = (uint32_t)(index / REMEMBERED + 1);
    if (sent->lap != lap) {
        *sent = (struct sent){lap, packet->timestamp + leg->timestamp_offset, packet->send_time};
        if (index >= leg->next) leg->next = index + 1;
    }
    return sent;
}

/* Write a leg's protected copy of a packet; return its length, 0 if it must not be sent. */
static int write_packet(struct leg *leg, const struct packet *packet, protect_function protect,
                        uint8_t *out) {
    uint16_t number = (uint16_t)(packet->sequence + leg->sequence_offset);
    const struct sent *sent = use(leg, number, packet);
    if (sent == NULL || packet->payload_bytes > PAYLOAD_BYTES_MAX) return 0;
    int bytes = HEADER_BYTES;
    out[0] = leg->send_time_id ? 0x90 : 0x80;
    out[1] = (packet->marker ? 0x80 : 0) | leg->payload_type;
    out[2] = (uint8_t)(number >> 8), out[3] = (uint8_t)number;
    put32(out + 4, sent->timestamp);
    put32(out + 8, leg->ssrc);
    if (leg->send_time_id) { /* one element of three bytes: RFC 8285, 4.2 */
        put32(out + 12, 0xBEDE0001);
        put32(out + 16, (uint32_t)(leg->send_time_id << 4 | 2) << 24 | sent->send_time);
        bytes += EXTENSION_BYTES;
    }
    memcpy(out + bytes, packet->payload, packet->payload_bytes);
    bytes += (int)packet->payload_bytes;
    return protect(leg->session, out, &bytes) == 0 ? bytes : 0;
}

/* What goes to the kernel at a time: a message for each leg, which has some of the packets. */
struct batch {
    _Alignas(16) uint8_t packets[BATCH][(PACKET_BYTES + 15) / 16 * 16];
    _Alignas(struct cmsghdr) uint8_t controls[BATCH][CMSG_SPACE(sizeof(uint16_t))];
    struct iovec pieces[BATCH];
    uint32_t payload_bytes[BATCH];
    struct mmsghdr messages[BATCH];
    struct leg *legs[BATCH];
    unsigned int packets_count, messages_count;
};

static void count(const struct batch *batch, unsigned int which, int sent) {
    const struct msghdr *message = &batch->messages[which].msg_hdr;
    struct leg *leg = batch->legs[which];
    const uint32_t *payload_bytes = &batch->payload_bytes[message->msg_iov - batch->pieces];
    for (size_t i = 0; i < message->msg_iovlen; i++) {
        if (sent) leg->packets++, leg->octets += payload_bytes[i];
        else leg->dropped++;
    }
}

/* Send the packets of a message one by one: the kernel cannot cut it (an older one, or the packets
 * are longer than what the path carries whole). */
static void send_singly(int fd, const struct batch *batch, unsigned int which) {
    struct msghdr all = batch->messages[which].msg_hdr;
    struct leg *leg = batch->legs[which];
    for (size_t i = 0; i < all.msg_iovlen; i++) {
        struct msghdr one = {.msg_name = all.msg_name, .msg_namelen = all.msg_namelen};
        one.msg_iov = all.msg_iov + i, one.msg_iovlen = 1;
        ssize_t sent;
        do sent = sendmsg(fd, &one, MSG_DONTWAIT | MSG_NOSIGNAL);
        while (sent < 0 && errno == EINTR);
        if (sent >= 0) leg->packets++, leg->octets += batch->payload_bytes[one.msg_iov - batch->pieces];
        else leg->dropped++;
    }
}

/* Send a batch. Whatever the kernel does not take at once is dropped and counted. */
static void flush(int fd, struct batch *batch) {
    for (unsigned int done = 0; done < batch->messages_count;) {
        struct mmsghdr *first = &batch->messages[done];
        int taken = sendmmsg(fd, first, batch->messages_count - done, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (taken < 0 && errno == EINTR) continue;
        if (taken <= 0) {
            int full = errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS;
            if (first->msg_hdr.msg_iovlen > 1 && !full) send_singly(fd, batch, done);
            else count(batch, done, 0);
            done++;
        }
        for (int i = 0; i < taken; i++) count(batch, done++, 1);
    }
    batch->packets_count = batch->messages_count = 0;
}

/* Add a leg's copies of a run as one message, which the kernel cuts (UDP_SEGMENT, udp(7)). */
static void add(struct batch *batch, struct leg *leg, const struct packet *run, uint32_t length,
                protect_function protect) {
    unsigned int begin = batch->packets_count, end = begin;
    for (uint32_t i = 0; i < length; i++) {
        int bytes = write_packet(leg, &run[i], protect, batch->packets[end]);
        if (bytes == 0) {
            leg->dropped++;
            continue;
        }
        batch->pieces[end] = (struct iovec){batch->packets[end], (size_t)bytes};
        batch->payload_bytes[end++] = run[i].payload_bytes;
    }
    if (end == begin) return;
    struct msghdr *message = &batch->messages[batch->messages_count].msg_hdr;
    *message = (struct msghdr){.msg_name = leg->address, .msg_namelen = leg->address_bytes};
    message->msg_iov = &batch->pieces[begin], message->msg_iovlen = end - begin;
    if (end - begin > 1) {
        message->msg_control = batch->controls[batch->messages_count];
        message->msg_controllen = sizeof batch->controls[0];
        struct cmsghdr *control = CMSG_FIRSTHDR(message);
        control->cmsg_level = IPPROTO_UDP, control->cmsg_type = UDP_SEGMENT;
        control->cmsg_len = CMSG_LEN(sizeof(uint16_t));
        uint16_t bytes = (uint16_t)batch->pieces[begin].iov_len;
        memcpy(CMSG_DATA(control), &bytes, sizeof bytes);
    }
    batch->legs[batch->messages_count++] = leg;
    batch->packets_count = end;
}

/* Send a run of at most RUN packets to legs that have an address. */
void fanout_send(int fd, struct leg *const *legs, uint32_t legs_count, protect_function protect,
                 const struct packet *run, uint32_t length) {
    struct batch batch;
    batch.packets_count = batch.messages_count = 0;
    if (length > RUN) return;
    for (uint32_t i = 0; i < legs_count; i++) {
        if (batch.packets_count + length > BATCH) flush(fd, &batch);
        add(&batch, legs[i], run, length, protect);
    }
    flush(fd, &batch);
}

/* Write one leg's copy to `out` (PACKET_BYTES, aligned to four), for another way than the socket;
 * return its length, 0 if it must not be sent. Who sends it counts it. */
int fanout_protect(struct leg *leg, protect_function protect, const struct packet *packet,
                   uint8_t *out) {
    return write_packet(leg, packet, protect, out);
}

/* What both sides must agree on. */
void fanout_layout(uint32_t told[6]) {
    told[0] = LAYOUT;
    told[1] = sizeof(struct leg);
    told[2] = offsetof(struct leg, sent);
    told[3] = sizeof(struct packet);
    told[4] = PACKET_BYTES;
    told[5] = RUN;
}
