/* One connection to the server under test, plain or TLS, never blocking.
 *
 * Compiled with -DWITH_TLS where OpenSSL's headers are; without, a link is plain.
 */
#pragma once
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#endif

enum { LINK_AGAIN = -1, LINK_LOST = -2 };

struct place {
    struct in_addr host;
    int port;
    int tls;
};

struct link {
    int fd;
    int wants_write; /* TLS must write before it can go on */
#ifdef WITH_TLS
    SSL *tls;
#endif
};

#ifdef WITH_TLS
static SSL_CTX *tls_context;
#endif

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void fail(const char *what) {
    fprintf(stderr, "sse_load: %s: %s\n", what, strerror(errno));
    exit(2);
}

static void refuse(const char *text) {
    fprintf(stderr, "sse_load: %s\n", text);
    exit(2);
}

static void link_prepare(int tls) {
#ifdef WITH_TLS
    if (!tls || tls_context) return;
    tls_context = SSL_CTX_new(TLS_client_method());
    if (!tls_context) refuse("OpenSSL gives no context");
    /* what is measured is the server; its certificate is made for the run */
    SSL_CTX_set_verify(tls_context, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_mode(tls_context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE);
    SSL_CTX_set_session_cache_mode(tls_context, SSL_SESS_CACHE_OFF);
#else
    if (tls) refuse("made without OpenSSL's headers (apt-get install libssl-dev)");
#endif
}

/* Begin to connect; 0, or LINK_LOST. `receive_bytes`: of the socket's buffer, 0: the system's. */
static int link_dial(struct link *link, const struct place *to, int receive_bytes) {
    int one = 1;
    memset(link, 0, sizeof *link);
    link->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (link->fd < 0) fail("socket");
    setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (receive_bytes)
        setsockopt(link->fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = to->host};
    address.sin_port = htons((uint16_t)to->port);
    if (connect(link->fd, (void *)&address, sizeof address) < 0 && errno != EINPROGRESS) {
        close(link->fd);
        link->fd = -1;
        return LINK_LOST;
    }
#ifdef WITH_TLS
    if (to->tls) {
        link->tls = SSL_new(tls_context);
        if (!link->tls || !SSL_set_fd(link->tls, link->fd)) refuse("OpenSSL gives no connection");
        SSL_set_connect_state(link->tls);
    }
#endif
    return 0;
}

static void link_close(struct link *link) {
#ifdef WITH_TLS
    if (link->tls) SSL_free(link->tls);
    link->tls = NULL;
#endif
    if (link->fd >= 0) close(link->fd);
    link->fd = -1;
}

#ifdef WITH_TLS
static int link_tls_problem(struct link *link, int result) {
    int what = SSL_get_error(link->tls, result);
    link->wants_write = what == SSL_ERROR_WANT_WRITE;
    ERR_clear_error();
    return what == SSL_ERROR_WANT_READ || what == SSL_ERROR_WANT_WRITE ? LINK_AGAIN : LINK_LOST;
}
#endif

/* Finish connecting: 0 when bytes may be sent, LINK_AGAIN, or LINK_LOST. */
static int link_open(struct link *link) {
    int problem = 0;
    socklen_t size = sizeof problem;
    if (getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &problem, &size) < 0 || problem)
        return LINK_LOST;
    link->wants_write = 0;
#ifdef WITH_TLS
    if (link->tls) {
        int result = SSL_do_handshake(link->tls);
        return result == 1 ? 0 : link_tls_problem(link, result);
    }
#endif
    return 0;
}

/* Bytes read; 0 at the end of the stream; LINK_AGAIN, or LINK_LOST. */
static ssize_t link_read(struct link *link, char *into, size_t room) {
#ifdef WITH_TLS
    if (link->tls) {
        int result = SSL_read(link->tls, into, room > 1 << 20 ? 1 << 20 : (int)room);
        if (result > 0) return result;
        if (SSL_get_shutdown(link->tls) & SSL_RECEIVED_SHUTDOWN) return 0;
        return link_tls_problem(link, result);
    }
#endif
    ssize_t got = recv(link->fd, into, room, 0);
    if (got >= 0) return got;
    return errno == EAGAIN || errno == EINTR ? LINK_AGAIN : LINK_LOST;
}

/* Whether all was sent. A request is small and its connection idle: what the kernel does not take
 * at once means that the server does not read. */
static int link_send(struct link *link, const char *bytes, size_t count) {
#ifdef WITH_TLS
    if (link->tls) return SSL_write(link->tls, bytes, (int)count) == (int)count;
#endif
    return send(link->fd, bytes, count, MSG_NOSIGNAL) == (ssize_t)count;
}
