// Enrols once with jscep, or goes on from there: java -cp 'JARS/*' Enrol.java URL CHALLENGE DIRECTORY COMMON_NAME [renew|retrieve]
//
// Writes DIRECTORY/key.pem (PKCS #8) and DIRECTORY/certificate.pem; with `renew`, has that certificate succeeded without a
// challenge and writes DIRECTORY/renewed.pem; with `retrieve`, asks with it for itself and for the CRL, and writes
// DIRECTORY/retrieved.pem and DIRECTORY/crl.pem. What is PENDING is polled for a minute. Exit code 0: there is a certificate;
// 3: the reply is a CertRep FAILURE, whose failInfo is printed; 4: still PENDING; anything else: jscep could not talk to
// the server.

import java.io.ByteArrayInputStream;
import java.math.BigInteger;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.PrivateKey;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.cert.X509CRL;
import java.security.cert.X509Certificate;
import java.security.spec.PKCS8EncodedKeySpec;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.Base64;
import java.util.Date;
import javax.security.auth.x500.X500Principal;
import org.bouncycastle.asn1.DERPrintableString;
import org.bouncycastle.asn1.pkcs.PKCSObjectIdentifiers;
import org.bouncycastle.asn1.x500.X500Name;
import org.bouncycastle.cert.jcajce.JcaX509CertificateConverter;
import org.bouncycastle.cert.jcajce.JcaX509v3CertificateBuilder;
import org.bouncycastle.operator.ContentSigner;
import org.bouncycastle.operator.jcajce.JcaContentSignerBuilder;
import org.bouncycastle.pkcs.PKCS10CertificationRequest;
import org.bouncycastle.pkcs.jcajce.JcaPKCS10CertificationRequestBuilder;
import org.jscep.client.Client;
import org.jscep.client.EnrollmentResponse;
import org.jscep.client.verification.OptimisticCertificateVerifier;
import org.jscep.transaction.OperationFailureException;

public final class Enrol {
    private static final int FAILURE = 3;
    private static final int PENDING = 4;
    private static final int POLLS = 60;

    public static void main(String[] arguments) throws Exception {
        String url = arguments[0];
        String challenge = arguments[1];
        Path directory = Path.of(arguments[2]);
        X500Name subject = new X500Name("CN=" + arguments[3]);

        String mode = arguments.length > 4 ? arguments[4] : "enrol";
        if (mode.equals("retrieve")) {
            retrieve(url, directory);
            return;
        }
        boolean renews = mode.equals("renew");

        KeyPair keys = generateKeys();
        ContentSigner signer = new JcaContentSignerBuilder("SHA256withRSA").build(keys.getPrivate());
        X509Certificate identity = renews ? readCertificate(directory) : selfSign(keys, subject, signer);
        PrivateKey identityKey = renews ? readKey(directory) : keys.getPrivate();
        Client client = new Client(URI.create(url).toURL(), new OptimisticCertificateVerifier());
        EnrollmentResponse response =
            client.enrol(identity, identityKey, request(keys, subject, renews ? null : challenge, signer));
        for (int attempt = 0; response.isPending() && attempt < POLLS; attempt++) {
            Thread.sleep(1000);
            response = client.poll(
                identity, identityKey, new X500Principal(subject.getEncoded()), response.getTransactionId());
        }

        if (response.isFailure()) {
            System.err.println("FAILURE " + response.getFailInfo());
            System.exit(FAILURE);
        }
        if (response.isPending()) {
            System.err.println("PENDING");
            System.exit(PENDING);
        }
        String stem = renews ? "new-key" : "key";
        write(directory.resolve(stem + ".pem"), "PRIVATE KEY", keys.getPrivate().getEncoded());
        Certificate issued = response.getCertStore().getCertificates(null).iterator().next();
        write(directory.resolve(renews ? "renewed.pem" : "certificate.pem"), "CERTIFICATE", issued.getEncoded());
    }

    private static void retrieve(String url, Path directory) throws Exception {
        X509Certificate identity = readCertificate(directory);
        PrivateKey key = readKey(directory);
        Client client = new Client(URI.create(url).toURL(), new OptimisticCertificateVerifier());
        try {
            Certificate found = client.getCertificate(identity, key, identity.getSerialNumber())
                .getCertificates(null).iterator().next();
            write(directory.resolve("retrieved.pem"), "CERTIFICATE", found.getEncoded());
            X509CRL crl = client.getRevocationList(
                identity, key, identity.getIssuerX500Principal(), identity.getSerialNumber());
            write(directory.resolve("crl.pem"), "X509 CRL", crl.getEncoded());
        } catch (OperationFailureException refused) {
            System.err.println("FAILURE " + refused.getFailInfo());
            System.exit(FAILURE);
        }
    }

    private static X509Certificate readCertificate(Path directory) throws Exception {
        byte[] pem = Files.readAllBytes(directory.resolve("certificate.pem"));
        return (X509Certificate) CertificateFactory.getInstance("X.509")
            .generateCertificate(new ByteArrayInputStream(pem));
    }

    private static PrivateKey readKey(Path directory) throws Exception {
        String pem = Files.readString(directory.resolve("key.pem"));
        String body = pem.replaceAll("-----[A-Z ]+-----", "");
        return KeyFactory.getInstance("RSA").generatePrivate(
            new PKCS8EncodedKeySpec(Base64.getMimeDecoder().decode(body)));
    }

    private static KeyPair generateKeys() throws Exception {
        KeyPairGenerator generator = KeyPairGenerator.getInstance("RSA");
        generator.initialize(2048);
        return generator.generateKeyPair();
    }

    private static X509Certificate selfSign(KeyPair keys, X500Name subject, ContentSigner signer) throws Exception {
        Instant now = Instant.now();
        JcaX509v3CertificateBuilder builder = new JcaX509v3CertificateBuilder(
            subject, BigInteger.ONE, Date.from(now.minus(1, ChronoUnit.HOURS)), Date.from(now.plus(1, ChronoUnit.DAYS)),
            subject, keys.getPublic());
        return new JcaX509CertificateConverter().getCertificate(builder.build(signer));
    }

    private static PKCS10CertificationRequest request(
            KeyPair keys, X500Name subject, String challenge, ContentSigner signer) {
        JcaPKCS10CertificationRequestBuilder builder =
            new JcaPKCS10CertificationRequestBuilder(subject, keys.getPublic());
        if (challenge != null) {
            builder.addAttribute(PKCSObjectIdentifiers.pkcs_9_at_challengePassword, new DERPrintableString(challenge));
        }
        return builder.build(signer);
    }

    private static void write(Path file, String label, byte[] der) throws Exception {
        String body = Base64.getMimeEncoder(64, new byte[] {'\n'}).encodeToString(der);
        Files.writeString(file, "-----BEGIN " + label + "-----\n" + body + "\n-----END " + label + "-----\n");
    }
}
