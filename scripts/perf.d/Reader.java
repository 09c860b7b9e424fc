import java.io.BufferedWriter;
import java.io.OutputStreamWriter;
import java.io.PrintWriter;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Kafka's own consumer with its defaults, as `forebay-bench follow --consumer` takes it: reads a topic from its end until its standard input ends,
 * and prints the number of each record (the first eight bytes of its value) and System.nanoTime() when poll() had returned it.
 * `java -cp 'LIBRARIES/*' Reader.java BOOTSTRAP TOPIC`; a source file is run by a JDK alone, not by a JRE.
 */
public final class Reader {
    private static volatile boolean over;

    public static void main(String[] arguments) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("key.deserializer", ByteArrayDeserializer.class.getName());
        settings.put("value.deserializer", ByteArrayDeserializer.class.getName());
        settings.put("enable.auto.commit", "false");
        long[] numbers = new long[1 << 20];
        long[] times = new long[1 << 20];
        int count = 0;
        try (var consumer = new KafkaConsumer<byte[], byte[]>(settings)) {
            List<TopicPartition> partitions = consumer.partitionsFor(arguments[1]).stream()
                .map(partition -> new TopicPartition(partition.topic(), partition.partition()))
                .toList();
            consumer.assign(partitions);
            consumer.seekToEnd(partitions);
            partitions.forEach(consumer::position); // seekToEnd waits until it is asked
            System.out.println("ready");
            System.out.flush();
            var end = new Thread(() -> {
                try {
                    System.in.readAllBytes();
                } catch (java.io.IOException error) {
                    // As good as its end.
                }
                over = true;
            });
            end.setDaemon(true);
            end.start();
            while (!over) {
                for (var record : consumer.poll(Duration.ofMillis(100))) {
                    if (count == numbers.length) {
                        numbers = Arrays.copyOf(numbers, 2 * count);
                        times = Arrays.copyOf(times, 2 * count);
                    }
                    numbers[count] = ByteBuffer.wrap(record.value()).getLong();
                    times[count++] = System.nanoTime();
                }
            }
        }
        try (var out = new PrintWriter(new BufferedWriter(new OutputStreamWriter(System.out)))) {
            for (int index = 0; index < count; index++) {
                out.println(Long.toUnsignedString(numbers[index]) + " " + times[index]);
            }
        }
    }
}
