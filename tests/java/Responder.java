import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Answers MQTT requests with Kafka's own consumer and producer, as any workflow may: Responder BOOTSTRAP REQUESTS RESPONSES. Each record of the topic
 * REQUESTS that has a response topic gets a record in RESPONSES, with that topic as its key and the same correlation data.
 */
public final class Responder {
    private Responder() {
    }

    public static void main(String[] arguments) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("group.id", arguments[1] + "-responder");
        settings.put("auto.offset.reset", "earliest");
        settings.put("key.deserializer", ByteArrayDeserializer.class.getName());
        settings.put("value.deserializer", ByteArrayDeserializer.class.getName());
        settings.put("key.serializer", ByteArraySerializer.class.getName());
        settings.put("value.serializer", ByteArraySerializer.class.getName());
        try (var consumer = new KafkaConsumer<byte[], byte[]>(settings); var producer = new KafkaProducer<byte[], byte[]>(settings)) {
            consumer.subscribe(List.of(arguments[1]));
            while (true) {
                for (var request : consumer.poll(Duration.ofMillis(100))) {
                    var to = request.headers().lastHeader("mqtt-response-topic");
                    var correlation = request.headers().lastHeader("mqtt-correlation-data");
                    if (to == null) {
                        continue;
                    }
                    byte[] answer = ("answer to " + new String(request.value(), StandardCharsets.UTF_8)).getBytes(StandardCharsets.UTF_8);
                    var response = new ProducerRecord<>(arguments[2], to.value(), answer);
                    if (correlation != null) {
                        response.headers().add(correlation);
                    }
                    producer.send(response);
                }
                producer.flush();
            }
        }
    }
}
