/* A library for LD_PRELOAD that keeps the listening sockets of a program on loopback.
 *
 * Triton 2.51 has an address option for its HTTP, gRPC and metrics ports, but binds its SageMaker front end to 0.0.0.0
 * (server/src/main.cc StartSagemakerService); TensorFlow Serving has no such option, and binds to :: and 0.0.0.0
 * (net_http/server/internal/evhttp_server.cc StartAcceptingRequests). This bind() replaces that of the C library:
 * 0.0.0.0 becomes the address in TRITONFORGE_LOOPBACK, or 127.0.0.1, and :: becomes ::ffff: with that address.
 * Everything else is passed on unchanged.
 *
 * Compiled when the wheel is built (hatch_build.py), or by tritonforge.serving.loopback:
 *   cc -shared -fPIC -O2 -o libtritonforge_loopback.so loopback.c
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct in_addr loopback_address(void)
{
    struct in_addr address;
    const char *text = getenv("TRITONFORGE_LOOPBACK");

    /* Only an address of 127.0.0.0/8 counts. */
    if (text == NULL || inet_pton(AF_INET, text, &address) != 1 || ntohl(address.s_addr) >> 24 != 127)
        address.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

int bind(int socket, const struct sockaddr *address, socklen_t length)
{
    struct in_addr loopback = loopback_address();
    struct sockaddr_in four;
    struct sockaddr_in6 six;

    /* The caller's structure is const, and may be unaligned: a copy is changed. */
    if (address != NULL && length >= sizeof four && address->sa_family == AF_INET) {
        memcpy(&four, address, sizeof four);
        if (four.sin_addr.s_addr == htonl(INADDR_ANY)) {
            four.sin_addr = loopback;
            address = (const struct sockaddr *)&four;
            length = sizeof four;
        }
    } else if (address != NULL && length >= sizeof six && address->sa_family == AF_INET6) {
        memcpy(&six, address, sizeof six);
        if (IN6_IS_ADDR_UNSPECIFIED(&six.sin6_addr)) {
            memset(&six.sin6_addr.s6_addr[10], 0xff, 2);
            memcpy(&six.sin6_addr.s6_addr[12], &loopback, sizeof loopback);
            address = (const struct sockaddr *)&six;
            length = sizeof six;
        }
    }
    /* Not through dlsym(RTLD_NEXT): it may allocate, and the system call is all that the C library's bind() does. */
    return (int)syscall(SYS_bind, socket, address, length);
}
