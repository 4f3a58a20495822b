/* Send the bytes of a file, such as a recorded message, to the door of a run: a client of Zenoh's protocol over TCP, without a library.
   cc -o send_message send_message.c && ./send_message 127.0.0.1 7447 heal/run/agent/recorded/message MESSAGE 300 100 */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int door;

static void fail(const char *what) { perror(what); exit(1); }

/* Zenoh's numbers: seven bits a byte, the lowest first, and the eighth bit set where more follow. */
static size_t put_number(unsigned char *at, uint64_t number) {
    size_t length = 0;
    for (; number > 127; number >>= 7) at[length++] = (number & 127) | 128;
    at[length++] = number;
    return length;
}

/* A batch on the wire: its length in two bytes, the low one first, then its bytes. */
static void send_batch(const unsigned char *bytes, size_t length) {
    unsigned char wire[2 + 65535] = {length & 255, length >> 8};
    memcpy(wire + 2, bytes, length);
    for (size_t done = 0; done < length + 2;) {
        ssize_t sent = send(door, wire + done, length + 2 - done, 0);
        if (sent <= 0) fail("send");
        done += sent;
    }
}

static void receive_batch(unsigned char *bytes) {
    unsigned char size[2];
    if (recv(door, size, 2, MSG_WAITALL) != 2) fail("receive");
    size_t length = size[0] | size[1] << 8;
    if (recv(door, bytes, length, MSG_WAITALL) != (ssize_t)length) fail("receive");
}

/* Open a session: INIT with our id, OPEN with the cookie of the answer. Returns the door's largest batch. */
static size_t open_session(void) {
    unsigned char init[] = {0x01, 9, 3 << 4 | 2, 0, 0, 0, 0}, answer[65535], open[16 + 128] = {0x42, 10, 0};
    uint32_t id = getpid();
    memcpy(init + 3, &id, 4); /* 4 bytes long, of a client */
    send_batch(init, sizeof init);
    receive_batch(answer);
    unsigned char *at = answer + 3 + (answer[2] >> 4) + 1;
    size_t batch = 65535;
    if (answer[0] & 0x40) batch = at[1] | at[2] << 8, at += 3;
    size_t cookie = at[0]; /* fewer than 128 bytes */
    if ((answer[0] & 0x3f) != 0x21 || cookie > 127) fprintf(stderr, "this door speaks another version of Zenoh\n"), exit(1);
    memcpy(open + 3, at, cookie + 1); /* a lease of 10 s, numbers from 0 */
    send_batch(open, 3 + cookie + 1);
    receive_batch(answer);
    return batch;
}

int main(int count, char **words) {
    if (count != 7) fprintf(stderr, "usage: send_message HOST PORT TOPIC FILE TIMES PERIOD_MS\n"), exit(2);
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons(atoi(words[2])), .sin_addr.s_addr = inet_addr(words[1])};
    FILE *file = fopen(words[4], "rb");
    if (!file || fseek(file, 0, SEEK_END)) fail(words[4]);
    size_t size = ftell(file), topic = strlen(words[3]), length = 0, number = 0;
    rewind(file);
    /* PUSH of a PUT: the topic, then the file's bytes. */
    unsigned char *push = malloc(size + topic + 32), part[65535], heard[65535];
    push[length++] = 0x3d, push[length++] = 0, length += put_number(push + length, topic);
    memcpy(push + length, words[3], topic), length += topic;
    push[length++] = 0x01, length += put_number(push + length, size);
    if (fread(push + length, 1, size, file) != size) fail(words[4]);
    length += size;
    if ((door = socket(AF_INET, SOCK_STREAM, 0)) < 0 || connect(door, (void *)&place, sizeof place)) fail("connect");
    size_t most = open_session() - 16;
    for (int times = atoi(words[5]); times > 0; times--, usleep(1000 * atoi(words[6]))) {
        for (size_t at = 0; at < length; at += most) { /* a FRAME, or FRAGMENTs with a bit for "more follow" */
            size_t rest = length - at, bytes = rest < most ? rest : most;
            part[0] = length <= most ? 0x25 : rest > most ? 0x66 : 0x26;
            size_t head = 1 + put_number(part + 1, number++);
            memcpy(part + head, push + at, bytes);
            send_batch(part, head + bytes);
        }
        while (recv(door, heard, sizeof heard, MSG_DONTWAIT) > 0); /* the clock, which is not listened to here */
    }
    return shutdown(door, SHUT_WR) || recv(door, heard, sizeof heard, MSG_WAITALL) < 0;
}
